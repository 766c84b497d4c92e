// One user: devices, groups, tags, refusals; kicks, bans, and a message to them.
import { at, get, post, put, remove } from './api.js';
import { h } from './dom.js';
import { count, t, when, whenStored } from './texts.js';
import { ask, badge, badges, button, card, empty, facts, field, form, head, input, loading, problem, redraw, select, table, toast, uidInput } from './ui.js';
import { refusalTable } from './page_refusals.js';

const SHOWN = 20;
const DURATIONS = [3600, 86400, 7 * 86400, 30 * 86400, 365 * 86400];

export function users(place) {
  const find = form([field(t('uid'), uidInput('uid', { required: true, placeholder: '1001' }), t('users_hint'))], t('find'), (given) => { location.hash = `#/users/${given.uid}`; }, { changes: false, inline: true });
  place.append(head(t('users_title'), t('users_text')), card('', find), h('div', { class: 'card' }, empty('users', t('users_empty'))));
}

export async function user(place, uid) {
  const body = h('div', { class: 'page-body' }, loading());
  place.append(head(t('user_title', { uid }), '', h('a', { class: 'button', href: '#/users' }, t('users_other')), h('a', { class: 'button', href: `#/send/${encodeURIComponent(`single/${uid}`)}` }, t('send_message'))), body);
  // Sessions that were ended here: presence hears of it from EMQX, a moment later.
  const ended = [];
  async function show() {
    const [known, refused] = await Promise.all([get(at('users', uid)), get('deadletters', { sender: uid, limit: 1000 })]);
    known.devices = known.devices.filter((each) => !ended.includes(session(each)));
    redraw(body, ...cards(uid, known, refused.deadletters.slice(-SHOWN).reverse(), show, (each) => ended.push(session(each))));
  }
  try {
    await show();
  } catch (error) {
    body.replaceChildren(problem(error));
  }
}

/** A device that comes back has another session. */
const session = ({ clientid, connected_at: at }) => `${clientid} ${at}`;

function cards(uid, known, refused, show, leaveOut) {
  const presence = known.devices.length ? badge(t('online'), 'good') : badge(t('offline'));
  const { timeline } = known;
  return [
    known.ban && h('div', { class: 'error' }, t('banned_until', { when: when(known.ban.until) }), known.ban.reason && ` — ${known.ban.reason}`),
    card('', h('div', { class: 'head' }, badges(presence, known.ban && badge(t('banned'), 'bad')), h('div', { class: 'actions' }, known.ban ? button(t('lift_ban'), () => lift(uid, show)) : button(t('ban'), () => ban(uid, show), { kind: 'danger' }))), facts([
      [t('last_seen'), known.last_seen ? when(known.last_seen) : t('never')],
      [t('stored_messages'), count(timeline.messages)],
      [t('oldest'), timeline.oldest ? whenStored(timeline.oldest) : '–'],
      [t('newest'), timeline.newest ? whenStored(timeline.newest) : '–'],
    ])),
    h('div', { class: 'columns' },
      card(t('devices'), known.devices.length ? table([[t('clientid'), (each) => h('span', { class: 'mono' }, each.clientid)], [t('connected_at'), (each) => when(each.connected_at)], ['', (each) => button(t('kick'), () => kick(uid, each.clientid, async () => { leaveOut(each); await show(); }), { kind: 'small danger', label: `${t('kick')}: ${each.clientid}` }), 'end']], known.devices, t('devices')) : empty('users', t('devices_none'))),
      card(t('tags'), known.tags.length ? table([[t('tag'), (each) => h('a', { href: `#/tags/${encodeURIComponent(each.tag)}` }, each.tag)], [t('sources'), (each) => badges(each.sources.map((source) => badge(t(`source_${source}`))))], ['', (each) => each.sources.includes('manual') && button(t('take'), () => change(uid, each.tag, false, show), { kind: 'small', label: `${t('take')}: ${each.tag}` }), 'end']], known.tags, t('tags')) : empty('tags', t('user_tags_none')), form([field(t('tag'), input('tag', { required: true, pattern: '[A-Za-z0-9_.\\-]{1,64}', title: t('tag_hint') }))], t('give'), (given) => change(uid, given.tag, true, show), { kind: '', inline: true }))),
    card(t('groups'), known.groups.length ? table([[t('gid'), (each) => h('a', { href: `#/groups/${each.gid}` }, each.gid)], [t('name'), (each) => each.name || '–'], [t('mode'), (each) => t(`mode_${each.mode}`)], [t('role'), (each) => badge(t(`role_${each.role}`), each.role === 'member' ? '' : 'accent')]], known.groups, t('groups')) : empty('groups', t('user_groups_none'))),
    card(t('user_refused'), refused.length ? refusalTable(refused, show) : empty('refusals', t('user_refused_none'))),
  ].filter(Boolean);
}

async function kick(uid, clientid, show) {
  const done = await ask(t('kick_title', { clientid }), { follows: [t('kick_follows_session'), t('kick_follows_again')], action: t('kick'), danger: true, work: () => remove(at('users', uid, 'devices', clientid)) });
  if (!done) return;
  toast(t('kicked', { clientid }));
  await show();
}

async function ban(uid, show) {
  const seconds = field(t('ban_for'), select('seconds', DURATIONS.map((each) => [String(each), t(`seconds_${each}`)])));
  const reason = field(t('reason'), input('reason', { maxlength: 256 }), t('reason_hint'));
  const done = await ask(t('ban_title', { uid }), { follows: [t('ban_follows_sessions'), t('ban_follows_login'), t('ban_follows_messages')], children: [seconds, reason], action: t('ban'), danger: true, work: (given) => put(at('users', uid, 'ban'), { seconds: Number(given.seconds), reason: given.reason }) });
  if (done) toast(t('banned_done', { uid }));
  await show();
}

async function lift(uid, show) {
  await remove(at('users', uid, 'ban'));
  toast(t('lifted', { uid }));
  await show();
}

async function change(uid, tag, give, show) {
  const changed = await post(at('tags', tag, 'users'), { [give ? 'add' : 'remove']: [uid] });
  toast(changed.added + changed.removed ? t(give ? 'given' : 'taken', { uid, tag }) : t('unchanged'));
  await show();
}
