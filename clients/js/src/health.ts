/** Tells the application why the device is not up to date, whenever the reason changes. */
import { now } from './flow.js';
import type { Report } from './messages.js';
import { times } from './times.js';

export class Health {
  #troubles = new Map<string, Report>();
  #refusedSince = new Map<string, number>();

  /** report: takes each event that the application is to hear. */
  constructor(private readonly report: (event: Report) => void) {}

  /** Something (`what`) did not work, and is tried again. refused: because of user or token. */
  failed(what: string, reason: string, refused = false): void {
    const since = refused ? (this.#refusedSince.get(what) ?? now()) : Infinity;
    if (refused) this.#refusedSince.set(what, since);
    const kind = now() - since >= times.login ? 'loginRefused' : 'trouble';
    const known = this.#troubles.get(what);
    if (known?.kind === kind && known.reason === reason) return;
    this.#troubles.set(what, { kind, reason });
    this.report({ kind, reason });
  }

  /** User and token were taken. */
  accepted(what: string): void {
    this.#refusedSince.delete(what);
  }

  /** It works again. */
  works(what: string): void {
    this.accepted(what);
    if (this.#troubles.delete(what) && !this.#troubles.size) this.report({ kind: 'recovered' });
  }
}
