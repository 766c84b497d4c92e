// How the service is, and what is wrong with it.
import { get } from './api.js';
import { h } from './dom.js';
import { bytes, count, t } from './texts.js';
import { badge, card, facts, head, loading, plot, poll, problem } from './ui.js';

const BAD = ['fail', 'warn'];
const ORDER = ['fail', 'warn', 'not checked', 'ok'];

export function overview(place) {
  const shown = h('div', { class: 'page-body' }, loading());
  const state = h('span', {});
  place.append(head(t('overview_title'), t('overview_text'), state), shown);
  return poll(async () => {
    try {
      const now = await get('overview');
      const bad = now.findings.filter((each) => BAD.includes(each.state)).length;
      state.replaceChildren(bad ? badge(t('overview_bad', { count: bad }), 'bad') : badge(t('overview_good'), 'good'));
      shown.replaceChildren(...body(now));
    } catch (error) {
      if (!shown.querySelector('.figures')) shown.replaceChildren(problem(error));
    }
  }, 5);
}

function body(now) {
  const of = (name) => now.minutes.map((minute) => minute[name]);
  // The minute that runs is not over yet: what happened is told of the last whole one.
  const whole = (name) => of(name).at(-2) ?? 0;
  const findings = [...now.findings].sort((one, other) => ORDER.indexOf(one.state) - ORDER.indexOf(other.state));
  const wrong = findings.filter((each) => BAD.includes(each.state));
  const { archive } = now;
  return [
    wrong.length > 0 && card(t('overview_wrong'), h('div', { class: 'findings' }, wrong.map(finding))),
    h('div', { class: 'figures' },
      figure(t('online_users'), count(now.online_users), '', of('online_users')),
      figure(t('online_devices'), count(now.online_devices), '', of('online_devices')),
      figure(t('messages'), count(whole('messages')), t('a_minute'), of('messages').slice(0, -1)),
      figure(t('pulls'), count(whole('pulls')), t('a_minute'), of('pulls').slice(0, -1)),
      figure(t('refused'), count(whole('refused')), t('a_minute'), of('refused').slice(0, -1)),
      figure(t('outbox'), bytes(archive.outbox_bytes ?? 0), '', of('outbox_bytes')),
      figure(t('events'), count(now.events_waiting), '', of('events_waiting')),
      figure(t('lag'), count(archive.lag_seconds ?? 0), t('seconds'), of('lag_ms').map((each) => each === null ? null : each / 1000))),
    card(t('overview_parts'), facts([[t('part_redis'), t(`redis_${now.redis}`)], [t('part_disk'), now.aof], [t('part_archive'), archive.state === 'ok' ? t('redis_ok') : archive.state], [t('part_outbox'), count(archive.outbox_length ?? 0)]]), h('div', { class: 'findings' }, findings.filter((each) => !BAD.includes(each.state)).map(finding))),
  ].filter(Boolean);
}

function figure(name, value, unit, values) {
  const known = values.map((each) => each ?? 0);
  const range = t('plot_range', { least: count(Math.min(...known, Infinity) === Infinity ? 0 : Math.min(...known)), most: count(Math.max(0, ...known)) });
  return h('section', { class: 'figure' }, h('h2', {}, name), h('strong', {}, value, unit && h('small', {}, unit)), plot(values, `${name}: ${range}`), h('div', { class: 'plot-range' }, h('span', {}, t('plot_before')), h('span', {}, range)));
}

function finding(each) {
  const mend = [each.mend && t('mend', { mend: each.mend }), each.page && t('see', { page: each.page })].filter(Boolean).join(' ');
  return h('div', { class: 'finding', 'data-state': each.state }, h('div', {}, h('strong', {}, each.subject), ' ', each.what), mend && h('p', { class: 'small' }, mend));
}
