// Sends messages in the service's name, and shows what was sent.
import { at, get, post } from './api.js';
import { h } from './dom.js';
import { count, t, when } from './texts.js';
import { ask, badge, badges, button, card, choices, empty, field, form, head, input, pages, table, toast } from './ui.js';

const TOPICS = { everybody: () => 'business/global', tag: (to) => `business/tag_${to}`, group: (to) => `group/${to}`, user: (to) => `single/${to}` };
const HINTS = { tag: '[A-Za-z0-9_.\\-]{1,64}', group: '[1-9][0-9]{0,15}', user: '[1-9][0-9]{0,15}' };

/** Returns kind and name of whom a topic is for. */
function receiver(topic = '') {
  const found = [['tag', 'business/tag_'], ['group', 'group/'], ['user', 'single/']].find(([, begin]) => topic.startsWith(begin));
  return found ? [found[0], topic.slice(found[1].length)] : ['everybody', ''];
}

export function send(place, topic) {
  const sent = pages(async (after, limit) => (await get('sent', { after, limit })).sent, (row) => row.id, (rows) => table([
    [t('when'), (each) => when(each.at)],
    [t('by'), (each) => each.name || t('with_token')],
    [t('to'), (each) => h('span', { class: 'mono' }, each.topic ?? '–')],
    [t('message'), (each) => shortly(each)],
    [t('state'), (each) => badges(each.status >= 300 ? badge(t('failed'), 'bad') : each.recalled ? badge(t('taken_back'), 'warn') : each.qos === 0 ? badge(t('live_only')) : badge(t('stored'), 'good'))],
    ['', (each) => each.mid && !each.recalled && button(t('recall'), () => recall(each, sent), { kind: 'small danger', label: `${t('recall')}: ${shortly(each)}` }), 'end'],
  ], rows, t('sent')), () => empty('send', t('sent_none')));
  place.append(head(t('send_title'), t('send_text')), h('div', { class: 'columns' }, ...compose(receiver(topic), sent)), h('h2', {}, t('sent')), sent.element);
}

function compose([kind, name], sent) {
  const audience = choices(t('audience'), 'audience', [['everybody', t('to_everybody')], ['tag', t('to_tag')], ['group', t('to_group')], ['user', t('to_user')]]);
  const to = input('to', { value: name, title: t('to_hint') });
  const place = field(t('to_which'), to);
  const text = h('textarea', { name: 'text', required: true, rows: 5, title: t('text_hint') });
  const type = input('type', { value: 'text', maxlength: 64, title: t('type_hint') });
  const body = field(t('text'), text);
  const shape = choices(t('shape'), 'shape', [['text', t('shape_text')], ['json', t('shape_json')]]);
  const typed = field(t('type'), type, t('type_hint'));
  const bubble = h('div', { class: 'bubble' }, '…');
  const raw = h('pre', { tabindex: '0', 'aria-label': t('preview_raw') });
  const values = (made) => Object.fromEntries(new FormData(made));
  const made = form([audience, place, choices(t('keeping'), 'qos', [['1', t('keep_stored')], ['0', t('keep_live')]]), shape, typed, body], t('send'), work);
  made.querySelector(`[name=audience][value=${kind}]`).checked = true;

  function message(given) {
    if (given.shape === 'text') return { type: 'text', body: { text: given.text } };
    try {
      return { type: given.type || undefined, body: JSON.parse(given.text) };
    } catch (error) {
      throw new Error(`${t('bad_json')}: ${error.message}`);
    }
  }
  function draw() {
    const given = values(made);
    place.hidden = given.audience === 'everybody';
    to.required = given.audience !== 'everybody';
    if (HINTS[given.audience]) to.pattern = HINTS[given.audience];
    typed.hidden = given.shape === 'text';
    try {
      const content = message(given);
      bubble.textContent = given.shape === 'text' ? given.text || '…' : t('preview_json', { type: content.type ?? '–' });
      raw.textContent = JSON.stringify({ id: '…', from: '0', ...content }, null, 2);
    } catch (error) {
      bubble.textContent = '…';
      raw.textContent = error.message;
    }
  }
  async function work(given) {
    const content = { topic: TOPICS[given.audience](given.to ?? ''), qos: Number(given.qos), ...message(given) };
    const follows = [await receivers(given), t(given.qos === '1' ? 'stored_follows' : 'live_follows')];
    const done = await ask(t('send_sure'), { text: content.topic, follows, action: t('send'), work: async () => { await post('publish', content); } });
    if (!done) return;
    toast(t('sent_done'));
    text.value = '';
    draw();
    await sent.begin();
  }
  made.addEventListener('input', draw);
  draw();
  return [card(t('compose'), made), card(t('preview'), h('p', { class: 'muted' }, t('preview_text')), h('div', { class: 'phone' }, h('span', { class: 'small muted' }, t('preview_from')), bubble), raw)];
}

/** Returns a sentence on how many a message is for. */
async function receivers(given) {
  if (given.audience === 'everybody') return t('for_everybody', { online: count((await get('presence')).online_users) });
  if (given.audience === 'tag') return t('for_holders', { count: count((await get(at('tags', given.to))).holders) });
  if (given.audience === 'group') return t('for_members', { count: count((await get(at('groups', given.to), { limit: 1 })).member_count) });
  const known = await get(at('users', given.to));
  return t(known.online ? 'for_user_online' : 'for_user_offline', { uid: given.to });
}

function shortly(each) {
  if (each.body === null || each.body === undefined) return each.type ?? '–';
  const line = String(each.body.text ?? JSON.stringify(each.body));
  return line.length > 80 ? `${line.slice(0, 80)}…` : line;
}

async function recall(each, sent) {
  const done = await ask(t('recall_title'), { text: shortly(each), follows: [t('recall_follows_gone'), t('recall_follows_seen')], action: t('recall'), danger: true, work: () => post('recall', { topic: each.topic, mid: each.mid }) });
  if (!done) return;
  toast(t('recalled'));
  await sent.show();
}
