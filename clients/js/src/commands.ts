/** Commands for groups, conversations and tags: messages to topics of their own, resent until they are answered. */

type Uid = string | number;
type Fields = object;

export interface GroupSettings {
  name?: string;
  mode?: 'write' | 'read';
  open?: boolean;
}

/** Commands to one group. Each resolves when the service has done it, and rejects with Refused. */
export interface Group {
  create(fields: GroupSettings & { members?: Uid[] }): Promise<number>;
  invite(members: Uid[]): Promise<number>;
  join(): Promise<number>;
  leave(options?: { all_of_owner?: boolean }): Promise<number>;
  kick(members: Uid[]): Promise<number>;
  dismiss(): Promise<number>;
  mode(mode: 'write' | 'read'): Promise<number>;
  update(fields: { name?: string; open?: boolean; notice?: string }): Promise<number>;
  transfer(to: Uid): Promise<number>;
  admin(members: Uid[], on: boolean): Promise<number>;
  /** seconds: 0 ends it. */
  mute(members: Uid[] | 'all', seconds: number): Promise<number>;
}

export abstract class Commands {
  abstract publish(topic: string, fields: Fields): Promise<number>;

  /** Returns the commands of a group. */
  group(gid: Uid): Group {
    // For each command, what its arguments are called; for those without names, they are the fields.
    const commands = {
      ...{ create: '', join: '', leave: '', dismiss: '', update: '' },
      ...{ invite: 'members', kick: 'members', mode: 'mode', transfer: 'to' },
      ...{ admin: 'members on', mute: 'members seconds' },
    };
    const run = ([command, names]: [string, string]) => [
      command,
      (...values: unknown[]) => {
        const fields = names ? Object.fromEntries(names.split(' ').map((name, place) => [name, values[place]])) : values[0];
        return this.publish(`group/${gid}/${command}`, (fields ?? {}) as Fields);
      },
    ];
    return Object.fromEntries(Object.entries(commands).map(run)) as Group;
  }

  /** Takes back a message of the user's own; in groups owner and admins may take back others'. */
  recall(topic: string, mid: number): Promise<number> {
    return this.publish(`${topic}/recall`, { mid });
  }

  /** Says something else in a message of the user's own. */
  edit(topic: string, mid: number, body: unknown, { type = 'text' }: { type?: string } = {}): Promise<number> {
    return this.publish(`${topic}/edit`, { mid, type, body });
  }

  /** Keeps a setting of the user's for all devices; null deletes it. */
  set(key: string, value: unknown): Promise<number> {
    return this.publish(`single/${this.uid}/set`, { key, value });
  }

  /** Refuses private messages and invitations of another user. */
  block(uid: Uid): Promise<number> {
    return this.publish(`single/${uid}/block`, {});
  }

  unblock(uid: Uid): Promise<number> {
    return this.publish(`single/${uid}/unblock`, {});
  }

  follow(tag: string): Promise<number> {
    return this.publish(`business/tag_${tag}/follow`, {});
  }

  unfollow(tag: string): Promise<number> {
    return this.publish(`business/tag_${tag}/unfollow`, {});
  }

  abstract readonly uid: string;
}

/** Returns an id for a new group: 53 random bits, never 0. */
export function newGroupId(): string {
  const [bits = 0n] = crypto.getRandomValues(new BigUint64Array(1));
  return String(bits >> 11n || 1);
}
