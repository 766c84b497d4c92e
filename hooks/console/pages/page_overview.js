// How the service is, and what is wrong with it.
import { get } from './api.js';
import { h } from './dom.js';
import { linked, manual } from './page_help.js';
import { bytes, count, t } from './texts.js';
import { badge, card, facts, head, loading, plot, poll, problem, redraw, said } from './ui.js';

const ORDER = ['fail', 'warn', 'not checked', 'ok'];
const bad = (each) => ['fail', 'warn'].includes(each.state);

export function overview(place) {
  const state = h('span', {});
  const shown = h('div', { class: 'page-body' }, loading());
  const wrong = part((findings) => findings.length > 0 && card(t('overview_wrong'), h('div', { class: 'findings' }, findings.map(finding))));
  const figures = part((now) => h('div', { class: 'figures' }, figuresOf(now)));
  const rest = part(({ now, findings }) => card(t('overview_parts'), facts(partsOf(now)), h('div', { class: 'findings' }, findings.map(finding))));
  place.append(head(t('overview_title'), t('overview_text'), state), shown);
  return poll(async () => {
    try {
      const { findings, ...now } = await get('overview');
      findings.sort((one, other) => ORDER.indexOf(one.state) - ORDER.indexOf(other.state));
      const number = findings.filter(bad).length;
      state.replaceChildren(number ? badge(t('overview_bad', { count: number }), 'bad') : badge(t('overview_good'), 'good'));
      wrong.show(findings.filter(bad));
      figures.show(now);
      rest.show({ now, findings: findings.filter((each) => !bad(each)) });
      if (!figures.place.isConnected) shown.replaceChildren(wrong.place, figures.place, rest.place);
    } catch (error) {
      // That the service is away is said above every page.
      if (!figures.place.isConnected) shown.replaceChildren(problem(error));
      else if (error.code !== 'away') state.replaceChildren(badge(said(error), 'bad'));
    }
  }, 5);
}

/** A part of the page that is drawn anew only when it changes, so that one can mark its text, or stand at its links. */
function part(draw) {
  const place = h('div', {});
  let before;
  return {
    place,
    show: (now) => {
      const all = JSON.stringify(now);
      if (all === before) return;
      before = all;
      redraw(place, draw(now) || '');
      place.hidden = !place.firstElementChild;
    },
  };
}

function figuresOf(now) {
  const of = (name) => now.minutes.map((minute) => minute[name]);
  // The minute that runs is not over yet: what happened is told of the last whole one.
  const whole = (name) => of(name).at(-2) ?? 0;
  const { archive } = now;
  return [
    figure(t('online_users'), count(now.online_users), '', of('online_users')),
    figure(t('online_devices'), count(now.online_devices), '', of('online_devices')),
    figure(t('messages'), count(whole('messages')), t('a_minute'), of('messages').slice(0, -1)),
    figure(t('pulls'), count(whole('pulls')), t('a_minute'), of('pulls').slice(0, -1)),
    figure(t('refused'), count(whole('refused')), t('a_minute'), of('refused').slice(0, -1)),
    figure(t('outbox'), bytes(archive.outbox_bytes ?? 0), '', of('outbox_bytes')),
    figure(t('events'), count(now.events_waiting), '', of('events_waiting')),
    figure(t('lag'), count(archive.lag_seconds ?? 0), t('seconds'), of('lag_ms').map((each) => each === null ? null : each / 1000)),
  ];
}

function partsOf({ redis, aof, archive }) {
  return [
    [t('part_redis'), t(`redis_${redis}`)],
    [t('part_disk'), aof],
    [t('part_archive'), archive.state === 'ok' ? t('redis_ok') : archive.state],
    [t('part_outbox'), count(archive.outbox_length ?? 0)],
  ];
}

function figure(name, value, unit, values) {
  const known = values.map((each) => each ?? 0);
  const range = t('plot_range', { least: count(Math.min(...known, Infinity) === Infinity ? 0 : Math.min(...known)), most: count(Math.max(0, ...known)) });
  return h('section', { class: 'figure' }, h('h2', {}, name), h('strong', {}, value, unit && h('small', {}, unit)), plot(values, `${name}: ${range}`), h('div', { class: 'plot-range' }, h('span', {}, t('plot_before')), h('span', {}, range)));
}

function finding(each) {
  const mend = each.mend && h('span', {}, linked(t('mend', { mend: each.mend })));
  const more = each.page && h('a', { href: manual(each.page), 'aria-label': `${t('read_more')}: ${each.subject}, ${each.what}` }, t('read_more'));
  return h('div', { class: 'finding', 'data-state': each.state }, h('div', {}, h('strong', {}, each.subject), ' ', linked(each.what), (mend || more) && h('p', { class: 'small' }, mend, mend && more && ' ', more)));
}
