// Puts the console together: login, frame, and the page that the address names.
import { call, listen, loadSession, mayChange, session } from './api.js';
import { h, icon } from './dom.js';
import { audit } from './page_audit.js';
import { group, groups } from './page_groups.js';
import { help } from './page_help.js';
import { login } from './page_login.js';
import { overview } from './page_overview.js';
import { refusals } from './page_refusals.js';
import { send } from './page_send.js';
import { tag, tags } from './page_tags.js';
import { user, users } from './page_users.js';
import { language, loadTexts, switchLanguage, t, when } from './texts.js';
import { badge, problem, redraw, said, toast } from './ui.js';

const PAGES = {
  overview: [overview],
  users: [users, user],
  groups: [groups, group],
  tags: [tags, tag],
  send: [send, send],
  refusals: [refusals],
  audit: [audit],
};
/** Pages that other pages lead to. */
const BESIDE = { help: [(place) => help(place, 'alarms'), help] };
const THEMES = ['auto', 'light', 'dark'];
const THEME = 'emqx-im-theme';

const root = document.getElementById('root');
let end = null;
let away = null;
let main = null;

function theme() {
  const kept = localStorage.getItem(THEME);
  const chosen = THEMES.includes(kept) ? kept : 'auto';
  if (chosen === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  return chosen;
}

const route = () => location.hash.replace(/^#\/?/, '').split('/').map(decoded);

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // Not of our making: no page has it.
  }
}

let turn = 0;
async function show({ focus = false } = {}) {
  const mine = ++turn;
  end?.();
  end = null;
  // A question of the page that was left: what is under way is told all the same.
  for (const box of document.querySelectorAll('dialog')) box.close();
  if (!session) {
    main = null;
    root.replaceChildren(login(begin));
    return;
  }
  const [name, id, part] = route();
  const all = { ...PAGES, ...BESIDE };
  const known = Object.hasOwn(all, name) ? name : 'overview';
  const page = all[known][id ? 1 : 0] ?? all[known][0];
  frame(known);
  const place = h('div', { class: 'page' });
  main.replaceChildren(place);
  try {
    const ends = (await page(place, id, part)) ?? null;
    // Another page was opened while this one was being fetched.
    if (mine !== turn) ends?.();
    else end = ends;
  } catch (error) {
    place.replaceChildren(problem(error), h('div', { class: 'actions' }, h('button', { type: 'button', onclick: () => show() }, t('try_again'))));
  }
  if (mine !== turn) return;
  document.title = `${t(`nav_${known}`)} · ${t('title')}`;
  if (focus) (place.querySelector('[data-focus]') ?? place.querySelector('h1'))?.focus();
}

function frame(current) {
  const chosen = theme();
  const items = Object.keys(PAGES).map((name) => h('li', {}, h('a', { href: `#/${name}`, 'aria-current': name === current ? 'page' : null }, icon(name), t(`nav_${name}`))));
  const menu = h('button', { type: 'button', class: 'menu', 'aria-expanded': 'false', onclick: () => menu.setAttribute('aria-expanded', String(side.classList.toggle('open'))) }, t('menu'));
  const switches = h('div', { class: 'switches' },
    h('button', { type: 'button', name: 'language', class: 'small', lang: language === 'en' ? 'zh-CN' : 'en', onclick: async () => { await switchLanguage(); await show(); } }, language === 'en' ? '中文' : 'English'),
    h('button', { type: 'button', name: 'theme', class: 'small', onclick: () => { localStorage.setItem(THEME, THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length]); frame(current); main.replaceChildren(kept); } }, t(`theme_${chosen}`)));
  const role = mayChange() ? badge(t('role_operator'), 'accent') : badge(t('role_viewer'));
  const who = h('div', { class: 'who' }, h('dl', {}, h('dt', {}, t('logged_in_as')), h('dd', {}, session.name, ' ', role), h('dd', { class: 'small muted' }, t('until', { when: when(session.ends) }))), switches, h('button', { type: 'button', class: 'small', onclick: leave }, t('log_out')));
  const side = h('header', { class: 'side' }, h('div', { class: 'brand' }, h('img', { src: 'icon.svg', alt: '' }), t('title')), menu, h('nav', { class: 'nav', 'aria-label': t('menu') }, h('ul', {}, items)), who);
  const kept = main?.firstElementChild ?? '';
  away = h('div', { class: 'away', role: 'alert', hidden: true }, t('away'));
  main = h('main', { id: 'main', tabindex: '-1' });
  const skip = h('a', { class: 'skip', href: '#main', onclick: (event) => { event.preventDefault(); main.focus(); } }, t('skip'));
  redraw(root, skip, h('div', { class: 'frame' }, side, h('div', {}, away, main)));
}

async function begin() {
  await loadSession();
  await show({ focus: true });
}

async function leave() {
  try {
    await call('POST', '/console/logout');
  } catch (error) {
    toast(said(error), 'bad');
    return;
  }
  await begin();
}

listen({
  away: (is) => { if (away) away.hidden = !is; },
  out: () => { toast(t('session_over'), 'bad'); begin(); },
});
window.addEventListener('hashchange', () => show({ focus: true }));
theme();
await loadTexts();
try {
  await loadSession();
  await show();
} catch (error) {
  root.replaceChildren(h('div', { class: 'login' }, h('div', { class: 'card' }, problem(error), h('button', { type: 'button', onclick: () => location.reload() }, t('try_again')))));
}
