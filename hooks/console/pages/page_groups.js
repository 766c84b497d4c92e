// Groups: all of them by pages, and one with its members.
import { at, get, post, remove } from './api.js';
import { h } from './dom.js';
import { count, t, when, whenStored } from './texts.js';
import { ask, badge, badges, button, card, check, empty, facts, field, form, head, input, loading, pages, problem, redraw, select, table, toast, uidInput } from './ui.js';

const MUTES = [600, 3600, 86400, 7 * 86400];
const modes = () => [['write', t('mode_write')], ['read', t('mode_read')]];
const uids = (text) => text.split(/[\s,;]+/).filter(Boolean);
const uidsInput = (name, attributes = {}) => input(name, { placeholder: '1001, 1002', ...attributes });

export function groups(place) {
  let name = '';
  const list = pages(async (after, limit) => (await get('groups', { after, limit, name })).groups, (row) => row.gid, (rows) => table([
    [t('gid'), (each) => h('a', { href: `#/groups/${each.gid}` }, each.gid)],
    [t('name'), (each) => each.name || '–'],
    [t('owner'), (each) => h('a', { href: `#/users/${each.owner}` }, each.owner)],
    [t('mode'), (each) => badges(badge(t(`mode_${each.mode}`)), each.open && badge(t('open'), 'accent'))],
    [t('members'), (each) => count(each.member_count), 'nums'],
    [t('made'), (each) => whenStored(each.made)],
  ], rows, t('groups')), () => empty('groups', name ? t('groups_none_named', { name }) : t('groups_none')));
  const search = form([field(t('part_of_name'), input('name', { maxlength: 128 }))], t('search'), async (given) => {
    name = given.name.trim();
    await list.begin();
  }, { changes: false, inline: true, kind: '' });
  const find = form([field(t('gid'), uidInput('gid', { required: true }))], t('find'), (given) => { location.hash = `#/groups/${given.gid}`; }, { changes: false, inline: true, kind: '' });
  place.append(head(t('groups_title'), t('groups_text'), button(t('create_group'), create, { kind: 'primary' })), h('div', { class: 'columns' }, card('', search), card('', find)), list.element);
}

async function create() {
  const children = [
    field(t('owner'), uidInput('owner', { required: true })),
    field(t('name'), input('name', { maxlength: 128 })),
    field(t('mode'), select('mode', modes()), t('mode_hint')),
    field(t('members'), uidsInput('members'), t('uids_hint')),
    check('open', t('open_hint')),
  ];
  let made;
  await ask(t('create_group'), { children, action: t('create'), work: async (given) => { made = await post('groups', { owner: given.owner, name: given.name, mode: given.mode, members: uids(given.members), open: given.open === 'on' }); } });
  if (made) location.hash = `#/groups/${made.gid}`;
}

export async function group(place, gid) {
  const body = h('div', { class: 'page-body' }, loading());
  place.append(head(t('group_title', { gid }), '', h('a', { class: 'button', href: '#/groups' }, t('groups_all')), h('a', { class: 'button', href: `#/send/${encodeURIComponent(`group/${gid}`)}` }, t('send_message'))), body);
  let known;
  let members = null;
  async function show() {
    try {
      known = await get(at('groups', gid), { limit: 1 });
      if (members) await members.show();
      else {
        members = membersOf(gid, () => known, run);
        await members.ready;
      }
      redraw(body, ...cards(known, run, show), h('h2', {}, t('members')), members.element);
    } catch (error) {
      body.replaceChildren(problem(error));
    }
  }
  const run = async (path, body, done) => {
    await post(at('groups', gid, path), body);
    toast(done);
    await show();
  };
  await show();
}

const confirmed = (title, follows, action, work) => ask(title, { follows, action, danger: true, work });

async function mute(who, run) {
  const seconds = field(t('mute_for'), select('seconds', MUTES.map((each) => [String(each), t(`seconds_${each}`)])));
  await ask(who === 'all' ? t('mute_all_title') : t('mute_title', { uid: who[0] }), { follows: [who === 'all' ? t('mute_all_follows') : t('mute_follows')], children: [seconds], action: t('mute'), work: (given) => run('mute', { members: who, seconds: Number(given.seconds) }, t('done')) });
}

/** The members by pages. known: returns the group as it is. */
function membersOf(gid, known, run) {
  const role = (uid) => (uid === known().owner ? 'owner' : known().admins.includes(uid) ? 'admin' : 'member');
  let mutes = {};
  const list = pages(async (after, limit) => {
    const page = await get(at('groups', gid), { after, limit });
    mutes = Object.fromEntries(page.mutes.map((each) => [each.uid, each.until]));
    return page.members;
  }, (uid) => uid, (rows) => table([
    [t('uid'), (uid) => h('a', { href: `#/users/${uid}` }, uid)],
    [t('role'), (uid) => badges(badge(t(`role_${role(uid)}`), role(uid) === 'member' ? '' : 'accent'), mutes[uid] && badge(t('muted_until', { when: when(mutes[uid]) }), 'warn'))],
    ['', (uid) => h('div', { class: 'actions' }, ...member(uid, role(uid), mutes[uid])), 'end'],
  ], rows, t('members')), () => empty('users', t('members_none')));

  function member(uid, its, muted) {
    const made = [];
    const small = (text, work, kind = '') => made.push(button(text, work, { kind: `small ${kind}`, label: `${text}: ${uid}` }));
    if (its !== 'owner') {
      small(its === 'admin' ? t('admin_no') : t('admin_yes'), () => run('admin', { members: [uid], on: its !== 'admin' }, t('done')));
      small(t('transfer'), () => confirmed(t('transfer_title', { uid }), [t('transfer_follows')], t('transfer'), () => run('transfer', { to: uid }, t('done'))));
      small(muted ? t('unmute') : t('mute'), () => (muted ? run('mute', { members: [uid], seconds: 0 }, t('done')) : mute([uid], run)));
    }
    small(t('kick'), () => confirmed(t('kick_member_title', { uid }), its === 'owner' ? [t('kick_owner_follows')] : [t('kick_member_follows')], t('kick'), () => run('members', { remove: [uid] }, t('done'))), 'danger');
    return made;
  }
  return list;
}

function cards(known, run, show) {
  const { gid } = known;
  const muteAll = known.muted_until ? button(t('unmute_all'), () => run('mute', { members: 'all', seconds: 0 }, t('done'))) : button(t('mute_all'), () => mute('all', run));
  const other = known.mode === 'write' ? 'read' : 'write';
  const name = input('name', { maxlength: 128, value: known.name });
  const notice = h('textarea', { name: 'notice', maxlength: 2048, rows: 3 }, known.notice);
  return [
    card('', h('div', { class: 'head' }, badges(badge(t(`mode_${known.mode}`), 'accent'), known.open && badge(t('open')), known.muted_until && badge(t('muted_until', { when: when(known.muted_until) }), 'warn')), h('div', { class: 'actions' }, button(t('change_mode', { mode: t(`mode_${other}`) }), () => confirmed(t('mode_title', { mode: t(`mode_${other}`) }), [t(`mode_${other}_follows`)], t('change'), () => run('mode', { mode: other }, t('done')))), muteAll, button(t('dismiss'), () => dismiss(gid), { kind: 'danger' }))), facts([[t('name'), known.name || '–'], [t('owner'), h('a', { href: `#/users/${known.owner}` }, known.owner)], [t('members'), t('of_limit', { count: count(known.member_count), limit: count(known.member_limit) })], [t('made'), whenStored(known.made)]])),
    h('div', { class: 'columns' },
      card(t('invite'), form([field(t('uids'), uidsInput('add', { required: true, title: t('uids_hint') }), t('uids_hint'))], t('invite'), async (given) => {
        const changed = await post(at('groups', gid, 'members'), { add: uids(given.add) });
        toast(t('invited', { count: count(changed.added) }));
        await show();
      })),
      card(t('settings'), form([field(t('name'), name), field(t('notice'), notice), check('open', t('open_hint'), known.open)], t('save'), (given) => update(given, known, run)))),
  ];
}

/** Sends what this operator has changed: what another changed meanwhile stays. */
async function update(given, known, run) {
  const changed = Object.entries({ name: given.name, notice: given.notice, open: given.open === 'on' }).filter(([field, value]) => value !== known[field]);
  if (changed.length) await run('update', Object.fromEntries(changed), t('saved'));
  else toast(t('unchanged'));
}

async function dismiss(gid) {
  const done = await ask(t('dismiss_title', { gid }), { follows: [t('dismiss_follows_members'), t('dismiss_follows_history'), t('dismiss_follows_gid')], action: t('dismiss'), danger: true, work: () => remove(at('groups', gid)) });
  if (!done) return;
  toast(t('dismissed', { gid }));
  location.hash = '#/groups';
}
