// Tags: all of them, and one with its holders, a few or a file of them.
import { at, get, mayChange, post, put, remove, upload } from './api.js';
import { h } from './dom.js';
import { count, t } from './texts.js';
import { ask, badge, badges, button, card, check, empty, facts, field, form, head, input, loading, pages, poll, problem, redraw, said, table, toast } from './ui.js';

const uids = (text) => text.split(/[\s,;]+/).filter(Boolean);
const tagInput = (name) => input(name, { required: true, pattern: '[A-Za-z0-9_.\\-]{1,64}', title: t('tag_hint') });
const state = (each) => badges(each.followable && badge(t('followable'), 'accent'), each.propagating && badge(t('propagating'), 'warn'));
const bySource = (each) => badges(Object.entries(each.sources).filter(([, number]) => number).map(([source, number]) => badge(`${t(`source_${source}`)} ${count(number)}`)));

export function tags(place) {
  const list = pages(async (after, limit) => (await get('tags', { after, limit })).tags, (row) => row.tag, (rows) => table([
    [t('tag'), (each) => h('a', { href: `#/tags/${encodeURIComponent(each.tag)}` }, each.tag)],
    [t('tag_title'), (each) => each.title || '–'],
    [t('holders'), (each) => count(each.holders), 'nums'],
    [t('sources'), bySource],
    [t('state'), state],
  ], rows, t('tags')), () => empty('tags', t('tags_none')));
  place.append(head(t('tags_title'), t('tags_text'), button(t('create_tag'), create, { kind: 'primary' })), list.element);
}

async function create() {
  const children = [field(t('tag'), tagInput('tag'), t('tag_hint')), field(t('tag_title'), input('title', { maxlength: 255 })), check('followable', t('followable_hint'))];
  const done = await ask(t('create_tag'), { children, action: t('create'), work: (given) => put(at('tags', given.tag), { title: given.title, followable: given.followable === 'on' }) });
  if (done) location.hash = `#/tags/${encodeURIComponent(done.tag)}`;
}

export async function tag(place, name) {
  const body = h('div', { class: 'page-body' }, loading());
  const summary = h('div', {});
  place.append(head(t('tag_page', { tag: name }), '', h('a', { class: 'button', href: '#/tags' }, t('tags_all')), h('a', { class: 'button', href: `#/send/${encodeURIComponent(`business/tag_${name}`)}` }, t('send_message')), button(t('delete'), () => drop(name), { kind: 'danger' })), body);
  let known;
  try {
    known = await get(at('tags', name));
  } catch (error) {
    body.replaceChildren(problem(error));
    return null;
  }
  const holders = pages(async (after, limit) => (await get(at('tags', name, 'users'), { after, limit })).users, (row) => row.uid, (rows) => table([
    [t('uid'), (each) => h('a', { href: `#/users/${each.uid}` }, each.uid)],
    [t('sources'), (each) => badges(each.sources.map((source) => badge(t(`source_${source}`))))],
    ['', (each) => each.sources.includes('manual') && button(t('take'), () => change({ remove: [each.uid] }), { kind: 'small', label: `${t('take')}: ${each.uid}` }), 'end'],
  ], rows, t('holders')), () => empty('users', t('holders_none')));

  // Users that a change of many had to look at when it was first seen here.
  let most = 0;
  function draw() {
    most = known.propagating ? Math.max(most, known.left) : 0;
    const carried = known.propagating && h('div', { class: 'note' }, h('p', {}, t('propagating_text', { left: count(known.left) })), h('progress', { max: Math.max(most, 1), value: most - known.left, 'aria-label': t('propagating') }));
    redraw(summary, card('', state(known), carried || '', facts([[t('tag_title'), known.title || '–'], [t('holders'), count(known.holders)], [t('sources'), bySource(known)]])));
  }
  async function refresh() {
    const before = known;
    known = await get(at('tags', name));
    draw();
    if (before.propagating && !known.propagating) toast(t('propagated'));
    if (JSON.stringify(before) !== JSON.stringify(known)) await holders.show();
  }
  async function change(body) {
    const changed = await post(at('tags', name, 'users'), body);
    toast(t('holders_changed', { added: count(changed.added), removed: count(changed.removed) }));
    await refresh();
  }
  let before = known;
  const settings = form([field(t('tag_title'), input('title', { maxlength: 255, value: known.title })), check('followable', t('followable_hint'), known.followable)], t('save'), async (given) => {
    // What another operator has changed meanwhile stays.
    const mine = { title: given.title, followable: given.followable === 'on' };
    const now = await get(at('tags', name));
    const chosen = (field) => (mine[field] === before[field] ? now[field] : mine[field]);
    await put(at('tags', name), { title: chosen('title'), followable: chosen('followable') });
    before = mine;
    toast(t('saved'));
    await refresh();
  });
  const few = form([field(t('uids'), input('uids', { required: true, placeholder: '1001, 1002', title: t('uids_hint') }), t('uids_hint')), field(t('what'), h('select', { name: 'what' }, h('option', { value: 'add' }, t('give')), h('option', { value: 'remove' }, t('take'))))], t('change'), (given) => change({ [given.what]: uids(given.uids) }));
  draw();
  body.replaceChildren(summary, h('div', { class: 'columns' }, card(t('tag_few'), few), card(t('tag_file'), h('p', { class: 'muted' }, t('tag_file_text')), fileForm(name, refresh)), card(t('settings'), settings)), h('h2', {}, t('holders')), holders.element);
  // While a change is carried through many users the number of holders grows.
  return poll(async () => {
    if (!known.propagating) return;
    try {
      await refresh();
    } catch (error) {
      if (error.code !== 'away') redraw(summary, problem(error));
    }
  }, 2);
}

function fileForm(name, done) {
  const choose = h('input', { type: 'file', accept: '.csv,.txt,text/plain,text/csv', disabled: !mayChange() });
  const found = h('div', { role: 'status' });
  choose.addEventListener('change', () => {
    const [file] = choose.files;
    if (file) look(file).catch((error) => found.replaceChildren(problem(error)));
  });
  async function look(file) {
    const bar = h('progress', { max: 1, value: 0, 'aria-label': t('reading_file') });
    found.replaceChildren(h('p', { class: 'small muted' }, t('reading_file')), bar);
    const seen = await upload('POST', at('tags', name, 'preview'), file, (part) => { bar.value = part; });
    if (choose.files[0] !== file) return;
    const wrong = seen.first_wrong.length > 0 && h('div', {}, h('p', { class: 'error' }, t('file_wrong', { count: count(seen.wrong) })), table([[t('line'), (each) => count(each.line), 'nums'], [t('what_is_wrong'), (each) => each.message]], seen.first_wrong, t('what_is_wrong')));
    const load = seen.wrong === 0 && seen.users > 0 && button(t('file_load', { count: count(seen.users) }), () => replace(file, seen), { kind: 'primary' });
    found.replaceChildren(...[wrong, seen.wrong === 0 && h('p', {}, seen.users ? t('file_good', { count: count(seen.users) }) : t('file_empty')), load].filter(Boolean));
  }
  async function replace(file, seen) {
    const sure = await ask(t('file_title', { tag: name }), { follows: [t('file_follows_set', { count: count(seen.users) }), t('file_follows_others')], action: t('replace'), danger: true });
    if (!sure) return;
    const bar = h('progress', { max: 1, value: 0, 'aria-label': t('loading_file') });
    found.replaceChildren(h('p', { class: 'small muted' }, t('loading_file')), bar);
    try {
      await upload('PUT', `${at('tags', name, 'users')}?source=profile`, file, (part) => { bar.value = part; });
    } catch (error) {
      found.replaceChildren(h('p', { class: 'error' }, said(error)));
      return;
    }
    choose.value = '';
    found.replaceChildren(h('p', { class: 'note' }, t('file_done', { count: count(seen.users) })));
    await done();
  }
  return h('div', {}, field(t('file'), choose, t('file_hint')), found);
}

async function drop(name) {
  const { holders } = await get(at('tags', name));
  const done = await ask(t('delete_tag', { tag: name }), { follows: [t('delete_tag_follows', { count: count(holders) }), t('delete_tag_history')], action: t('delete'), danger: true, work: () => remove(at('tags', name)) });
  if (!done) return;
  toast(t('deleted', { name }));
  location.hash = '#/tags';
}
