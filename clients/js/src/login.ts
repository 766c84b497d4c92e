/** The user's token, new from the application each time it is needed. */
import { Unauthorized } from './errors.js';
import { fromBase64 } from './messages.js';

export class Login {
  constructor(
    private readonly uid: string,
    private readonly give: () => string | Promise<string>,
  ) {}

  /** Returns a token. Rejects with Unauthorized for another user's: with that the pull would bring another user's messages. */
  async token(): Promise<string> {
    let token: string;
    try {
      token = String(await this.give()).trim();
    } catch (error) {
      throw new Error(`the application gives no token: ${error}`);
    }
    if (!/^[!-~]+$/.test(token)) throw new Error('no token');
    const subject = subjectOf(token);
    if (subject !== undefined && subject !== this.uid) {
      throw new Unauthorized(`the token is of user '${subject}'`);
    }
    return token;
  }
}

/** Returns the `sub` of a JWT; undefined where there is none to be read, which is for others to judge. */
function subjectOf(token: string): string | undefined {
  const parts = token.split('.');
  if (parts.length !== 3) return undefined;
  try {
    const bytes = fromBase64((parts[1] ?? '').replaceAll('-', '+').replaceAll('_', '/'));
    const { sub } = JSON.parse(new TextDecoder().decode(bytes)) as { sub?: unknown };
    return sub === undefined || sub === null ? undefined : String(sub);
  } catch {
    return undefined;
  }
}
