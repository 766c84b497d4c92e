// Dead letters: what was refused and why, to be replayed or deleted, one or all of a kind.
import { at, get, post, remove } from './api.js';
import { h } from './dom.js';
import { count, t, when } from './texts.js';
import { ask, badge, button, card, empty, field, form, head, input, pages, said, table, toast } from './ui.js';

export function refusals(place) {
  let kind = {};
  const list = pages(async (after, limit) => (await get('deadletters', { after, limit, ...kind })).deadletters, (row) => row.n, (rows) => refusalTable(rows, () => list.show()), () => empty('refusals', t('refusals_none')));
  const filter = form([field(t('reason'), input('reason', { placeholder: 'bad_json' })), field(t('sender'), input('sender', { placeholder: '1001' })), field(t('since'), input('since', { type: 'datetime-local' })), field(t('before'), input('until', { type: 'datetime-local' }))], t('filter'), async (given) => {
    kind = { reason: given.reason.trim(), sender: given.sender.trim(), since: moment(given.since), until: moment(given.until) };
    await list.begin();
  }, { changes: false, inline: true, kind: '' });
  const named = () => [kind.reason, kind.sender, kind.since && `${t('since')} ${when(kind.since)}`, kind.until && `${t('before')} ${when(kind.until)}`].filter(Boolean).join(', ') || t('all_of_them');

  async function each(work, told) {
    let after = '';
    let total = 0;
    let left = 0;
    for (;;) {
      const done = await work({ ...kind, after, limit: 200 });
      total += done.deleted ?? done.replayed;
      left += done.refused ?? 0;
      if (done.last === null) break;
      after = done.last;
    }
    toast(t(told, { count: count(total), left: count(left) }));
    await list.begin();
  }
  const replayAll = () => ask(t('replay_all_title', { kind: named() }), { follows: [t('replay_all_follows')], action: t('replay_all'), work: () => each((query) => post('deadletters/replay', {}, query), 'replayed_all') });
  const deleteAll = () => ask(t('delete_all_title', { kind: named() }), { follows: [t('delete_all_follows')], action: t('delete_all'), danger: true, work: () => each((query) => remove('deadletters', query), 'deleted_all') });
  place.append(head(t('refusals_title'), t('refusals_text'), button(t('replay_all'), replayAll), button(t('delete_all'), deleteAll, { kind: 'danger' })), card('', filter), list.element);
}

/** Returns a time of this place in milliseconds; '' if none is given. */
const moment = (given) => given && new Date(given).getTime();

export function refusalTable(rows, show) {
  async function replay(letter) {
    try {
      await post(at('deadletters', letter.n, 'replay'));
      toast(t('replayed'));
    } catch (error) {
      toast(said(error), 'bad');
    }
    await show();
  }
  async function drop(letter) {
    const done = await ask(t('delete_letter', { n: letter.n }), { follows: [t('delete_all_follows')], action: t('delete'), danger: true, work: () => remove(at('deadletters', letter.n)) });
    if (done) await show();
  }
  return table([
    ['№', (each) => count(each.n), 'nums'],
    [t('when'), (each) => when(each.at)],
    [t('sender'), (each) => (/^[1-9]\d{0,15}$/.test(each.sender) ? h('a', { href: `#/users/${each.sender}` }, each.sender) : each.sender || '–')],
    [t('reason'), (each) => h('div', {}, badge(each.reason, 'warn'), h('p', { class: 'small muted' }, each.message))],
    [t('content'), (each) => h('details', {}, h('summary', {}, t('show')), h('pre', { tabindex: '0' }, decoded(each)))],
    ['', (each) => h('div', { class: 'actions' }, button(t('replay'), () => replay(each), { kind: 'small', label: `${t('replay')}: ${each.n}` }), button(t('delete'), () => drop(each), { kind: 'small danger', label: `${t('delete')}: ${each.n}` })), 'end'],
  ], rows, t('refusals_title'));
}

const text = (base64) => new TextDecoder().decode(Uint8Array.from(atob(base64), (each) => each.charCodeAt(0)));

/** Returns the letter's body, with the payload in it decoded, too. */
function decoded(letter) {
  const raw = text(letter.body_b64);
  try {
    const body = JSON.parse(raw);
    if (typeof body.payload_b64 === 'string') {
      const payload = text(body.payload_b64);
      delete body.payload_b64;
      try {
        body.payload = JSON.parse(payload);
      } catch {
        body.payload = payload;
      }
    }
    return JSON.stringify(body, null, 2);
  } catch {
    return raw;
  }
}
