// The parts of pages: tables and their paging, forms, dialogs, plots, and what is shown while something loads.
import { mayChange } from './api.js';
import { h, icon, svg } from './dom.js';
import { count, t } from './texts.js';

export const badge = (text, tone = '') => h('span', { class: 'badge', 'data-tone': tone }, text);
export const badges = (...children) => h('span', { class: 'badges' }, ...children);
export const loading = () => h('div', { class: 'loading', role: 'status', 'aria-label': t('loading') }, h('i'), h('i'), h('i'));
export const empty = (name, text) => h('div', { class: 'empty' }, icon(name), h('p', {}, text));
export const problem = (error) => h('p', { class: 'error', role: 'alert' }, said(error));
export const facts = (pairs) => h('dl', { class: 'facts' }, pairs.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));

/** Returns what to say of an error: the service's own sentence, with its code. */
export function said(error) {
  if (error.code === 'away') return t('away');
  return error.code ? `${error.message} (${error.code})` : error.message;
}

export function head(title, text, ...actions) {
  const words = h('div', {}, h('h1', { tabindex: '-1' }, title), text && h('p', {}, text));
  return h('div', { class: 'head' }, words, actions.length > 0 && h('div', { class: 'actions' }, ...actions));
}

export function card(title, ...children) {
  return h('section', { class: 'card' }, title && h('h2', {}, title), ...children);
}

let toasts;
export function toast(text, tone = 'good') {
  toasts ??= document.body.appendChild(h('div', { class: 'toasts', role: 'status' }));
  const shown = toasts.appendChild(h('div', { class: 'toast', 'data-tone': tone }, text));
  setTimeout(() => shown.remove(), 6000);
}

/** Returns a button that is busy until its work is done; viewers cannot press one that changes something. */
export function button(text, work, { kind = '', changes = true, label = null } = {}) {
  const made = h('button', { type: 'button', class: kind, 'aria-label': label, disabled: changes && !mayChange() }, text);
  if (changes && !mayChange()) made.title = t('viewers_look');
  made.addEventListener('click', () => busy(made, work).catch((error) => toast(said(error), 'bad')));
  return made;
}

/** Does the work of a control once at a time. It is not disabled meanwhile: the keyboard would lose its place. */
export async function busy(control, work) {
  if (isBusy(control)) return undefined;
  control.setAttribute('aria-busy', 'true');
  control.setAttribute('aria-disabled', 'true');
  try {
    return await work();
  } finally {
    control.removeAttribute('aria-busy');
    control.removeAttribute('aria-disabled');
  }
}

const isBusy = (control) => control.hasAttribute('aria-busy');

const CONTROLS = 'a[href], button:not(:disabled), input, select, textarea, summary';
const named = (control) => control.name || control.getAttribute('aria-label') || control.textContent;
/** What has the keyboard again once the dialog is closed. */
let opener = null;
/** Draws a place anew, and leaves the keyboard where it was: at the control of that name, or else of that position. */
export function redraw(place, ...children) {
  const controls = () => [...place.querySelectorAll(CONTROLS)];
  const active = opener ?? document.activeElement;
  const position = controls().indexOf(active);
  const name = position < 0 ? '' : named(active);
  place.replaceChildren(...children);
  if (position < 0) return;
  const now = controls();
  const next = now.find((each) => named(each) === name) ?? now[Math.min(position, now.length - 1)] ?? document.querySelector('h1');
  if (opener) opener = next;
  else next?.focus({ preventScroll: true });
}

let fields = 0;
/** Returns a labelled control. */
export function field(label, control, hint = '') {
  control.id = `field-${++fields}`;
  const below = hint && h('span', { class: 'hint', id: `${control.id}-hint` }, hint);
  if (hint) control.setAttribute('aria-describedby', below.id);
  return h('div', { class: 'field' }, h('label', { for: control.id }, label), control, below);
}

export const input = (name, attributes = {}) => h('input', { name, autocomplete: 'off', spellcheck: 'false', ...attributes });
export const uidInput = (name, attributes = {}) => input(name, { inputmode: 'numeric', pattern: '[1-9][0-9]{0,15}', title: t('uid_hint'), ...attributes });
export const select = (name, options) => h('select', { name }, options.map(([value, text]) => h('option', { value }, text)));
export const check = (name, text, on = false) => h('label', { class: 'check' }, h('input', { type: 'checkbox', name, checked: on }), text);

export function choices(legend, name, options) {
  const made = options.map(([value, text], index) => h('label', {}, h('input', { type: 'radio', name, value, checked: index === 0 }), text));
  return h('fieldset', {}, h('legend', {}, legend), h('div', { class: 'choices' }, made));
}

/** Returns a form that shows what is wrong below its fields; `work` gets its values. */
export function form(children, action, work, { kind = 'primary', changes = true, inline = false } = {}) {
  const trouble = h('div', { role: 'alert' });
  const submit = h('button', { class: kind, disabled: changes && !mayChange(), title: changes && !mayChange() ? t('viewers_look') : null }, action);
  const made = h('form', { novalidate: true }, h('div', { class: inline ? 'inline' : 'fields' }, ...children, inline && submit), trouble, !inline && h('div', { class: 'actions' }, submit));
  made.addEventListener('submit', (event) => {
    event.preventDefault();
    trouble.replaceChildren();
    if (!valid(made, trouble)) return;
    busy(submit, () => work(Object.fromEntries(new FormData(made)), made)).catch((error) => trouble.replaceChildren(h('p', { class: 'error' }, said(error))));
  });
  return made;
}

function valid(made, trouble) {
  const wrong = [...made.elements].filter((each) => each.willValidate && !each.validity.valid);
  for (const each of made.elements) each.removeAttribute('aria-invalid');
  for (const each of wrong) each.setAttribute('aria-invalid', 'true');
  if (!wrong.length) return true;
  const name = made.querySelector(`label[for="${wrong[0].id}"]`)?.textContent ?? wrong[0].name;
  trouble.replaceChildren(h('p', { class: 'error' }, `${name}: ${wrong[0].title || wrong[0].validationMessage}`));
  wrong[0].focus();
  return false;
}

/** Asks in a dialog, spelling out what follows. Returns the values of its fields, or null if it was left. */
export function ask(title, { text = '', follows = [], children = [], action, danger = false, work = null }) {
  return new Promise((resolve) => {
    const trouble = h('div', { role: 'alert' });
    const submit = h('button', { class: danger ? 'danger primary' : 'primary' }, action);
    const leave = h('button', { type: 'button', onclick: () => isBusy(submit) || box.close() }, t('cancel'));
    const made = h('form', { method: 'dialog', novalidate: true }, h('h2', { id: 'ask-title' }, title), text && h('p', {}, text), follows.length > 0 && h('ul', {}, follows.map((each) => h('li', {}, each))), ...children, trouble, h('div', { class: 'actions' }, leave, submit));
    const box = document.body.appendChild(h('dialog', { 'aria-labelledby': 'ask-title' }, made));
    let answer = null;
    let running = null;
    made.addEventListener('submit', (event) => {
      event.preventDefault();
      trouble.replaceChildren();
      if (isBusy(submit) || !valid(made, trouble)) return;
      const given = Object.fromEntries(new FormData(made));
      running = busy(submit, async () => {
        if (work) await work(given);
        answer = given;
        box.close();
      }).catch((error) => (box.isConnected ? trouble.replaceChildren(h('p', { class: 'error' }, said(error))) : toast(said(error), 'bad')));
    });
    // The Escape key closes it while its work goes on, too: what comes of that is told all the same.
    box.addEventListener('close', async () => {
      box.remove();
      opener?.focus({ preventScroll: true });
      opener = null;
      await running;
      resolve(answer);
    });
    opener = document.activeElement;
    box.showModal();
    if (danger && !children.length) leave.focus();
  });
}

/** columns: of name, function from row to content, and class. */
export function table(columns, rows, caption) {
  const titles = h('tr', {}, columns.map(([name]) => h('th', { scope: 'col' }, name || h('span', { class: 'visually-hidden' }, t('actions')))));
  const lines = rows.map((row) => h('tr', {}, columns.map(([name, of, kind]) => h('td', { 'data-label': name || null, class: kind }, of(row)))));
  return h('table', { class: 'table' }, h('caption', { class: 'visually-hidden' }, caption), h('thead', {}, titles), h('tbody', {}, lines));
}

/** A list by pages. load: from `after` to rows; last: the `after` that follows a row; draw: from rows to content. */
export function pages(load, last, draw, none, { limit = 25 } = {}) {
  const place = h('div', { class: 'card' }, loading());
  const before = [];
  let after = '';
  async function show() {
    place.setAttribute('aria-busy', 'true');
    try {
      const rows = await load(after, limit + 1);
      const more = rows.length > limit;
      const shown = rows.slice(0, limit);
      const back = h('button', { type: 'button', class: 'small', disabled: !before.length, onclick: () => go(before.pop()) }, t('previous'));
      const next = h('button', { type: 'button', class: 'small', disabled: !more, onclick: () => { before.push(after); go(last(shown.at(-1))); } }, t('next'));
      const pager = (more || before.length > 0) && h('div', { class: 'pager' }, back, h('span', { class: 'small muted' }, t('page', { number: count(before.length + 1) })), next);
      redraw(place, ...(shown.length ? [draw(shown)] : [none()]), ...(pager ? [pager] : []));
    } catch (error) {
      redraw(place, problem(error), h('div', { class: 'actions' }, h('button', { type: 'button', onclick: show }, t('try_again'))));
    } finally {
      place.removeAttribute('aria-busy');
    }
  }
  function go(to) {
    after = to;
    return show();
  }
  return { element: place, ready: show(), show, begin: () => { before.length = 0; return go(''); } };
}

/** Returns a small plot of numbers; null where one is not known. */
export function plot(values, label) {
  const most = Math.max(1, ...values.map((value) => value ?? 0));
  const points = values.map((value, index) => [(index / Math.max(values.length - 1, 1)) * 100, 30 - ((value ?? 0) / most) * 28]);
  const text = points.map((point) => point.map((each) => each.toFixed(2)).join(',')).join(' ');
  return svg('svg', { class: 'plot', viewBox: '0 0 100 31', preserveAspectRatio: 'none', role: 'img', 'aria-label': label }, svg('line', { x1: 0, x2: 100, y1: 30.5, y2: 30.5 }), svg('polygon', { points: `0,30.5 ${text} 100,30.5` }), svg('polyline', { points: text }));
}

/** Does something again and again while the page is shown and its tab is seen; returns what ends it. */
export function poll(work, seconds) {
  let ended = false;
  let timer;
  let running = false;
  let due = 0;
  async function step() {
    clearTimeout(timer);
    if (ended || document.hidden || running) return;
    // A tab that is hidden and shown again does not ask any sooner.
    if (Date.now() < due) {
      timer = setTimeout(step, due - Date.now());
      return;
    }
    running = true;
    try {
      await work();
    } finally {
      running = false;
      due = Date.now() + Math.max(seconds, 2) * 1000;
      step();
    }
  }
  document.addEventListener('visibilitychange', step);
  step();
  return () => {
    ended = true;
    clearTimeout(timer);
    document.removeEventListener('visibilitychange', step);
  };
}
