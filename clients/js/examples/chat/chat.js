// A small web chat: private conversations and groups, unread counts, recall. It shows what is in the device's storage,
// and reads that again when the device tells of something new.
import { Device, IndexedDBStorage, newGroupId } from '@emqx-im/client';

const at = (id) => document.getElementById(id);
const field = (form, name) => at(form).elements.namedItem(name);

let device;
let current;
/** Messages that came live and no pull has brought yet, and those that are on their way: by conversation. */
const claims = new Map();
const sending = new Map();

const listOf = (map, conversation) => map.get(conversation) ?? map.set(conversation, []).get(conversation);
const status = (text) => (at('status').textContent = text);

async function start(uid) {
  device = await Device.open({
    uid,
    token: async () => {
      const answer = await fetch(`/token?uid=${uid}`);
      if (!answer.ok) throw new Error(await answer.text());
      return answer.text();
    },
    broker: await fetch('/broker').then((answer) => answer.text()),
    url: location.origin,
    storage: new IndexedDBStorage(`chat-${uid}`),
    share: `chat-${uid}`,
  });
  at('who').textContent = `User ${uid}`;
  at('login').hidden = true;
  document.querySelector('nav').hidden = document.querySelector('main').hidden = false;
  void listen();
  await draw();
}

async function listen() {
  try {
    for await (const event of device) {
      if (event.kind === 'trouble' || event.kind === 'loginRefused') status(`Trying to connect: ${event.reason}`);
      else if (event.kind === 'recovered') status('');
      else if (event.kind === 'received' && !event.confirmed) listOf(claims, event.message.conversation).push({ ...event.message, ts: Date.now() });
      await draw();
    }
  } catch (error) {
    status(`Ended: ${error.message}`);
  }
}

function element(tag, text, attributes = {}) {
  const made = Object.assign(document.createElement(tag), { textContent: text });
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

let drawing = Promise.resolve();
/** Draws once more when the drawing before is done. */
const draw = () => (drawing = drawing.then(drawAll, drawAll));

async function drawAll() {
  if (current && document.visibilityState === 'visible') {
    const counts = await device.unread();
    if (counts.get(current)) device.read(current).then(draw, () => undefined);
  }
  const [known, unread] = await Promise.all([device.conversations(), device.unread()]);
  const names = new Set([...known.map(({ conversation }) => conversation), ...claims.keys(), ...sending.keys()]);
  if (current) names.add(current);
  // What the service tells the device is no conversation.
  names.delete('single/0');
  at('conversations').replaceChildren(
    ...[...names].sort().map((name) => {
      const button = element('button', name.replace('single/', 'User ').replace('group/', 'Group '), {
        'data-conversation': name,
        'aria-current': String(name === current),
      });
      if (unread.get(name)) button.append(element('span', unread.get(name), { class: 'unread' }));
      button.onclick = () => show(name);
      return button;
    }),
  );
  at('composer').hidden = !current;
  if (current) await drawMessages();
}

async function drawMessages() {
  const messages = await device.messages(current, { limit: 200 });
  const pulled = new Set(messages.map(({ sender, id }) => `${sender} ${id}`));
  const waiting = listOf(claims, current).filter(({ sender, id }) => !pulled.has(`${sender} ${id}`));
  claims.set(current, waiting);
  const all = [...messages, ...waiting].sort((one, other) => one.ts - other.ts);
  const items = all.filter(({ type }) => !type?.startsWith('im.')).map(item);
  items.push(...listOf(sending, current).map(({ text, error }) => element('li', error ? `${text}: ${error}` : text, { class: 'mine waiting' })));
  at('messages').replaceChildren(...items);
  at('messages').scrollTop = at('messages').scrollHeight;
}

function item(message) {
  const mine = message.sender === device.uid;
  const classes = [mine ? 'mine' : '', message.mid ? '' : 'claim', message.recalled ? 'recalled' : ''].filter(Boolean);
  const said = message.recalled ? 'Message taken back' : (message.body?.text ?? JSON.stringify(message.body));
  const shown = element('li', `${mine ? '' : `${message.sender}: `}${said}`, { class: classes.join(' ') });
  if (mine && message.mid && !message.recalled) {
    const recall = element('button', 'Recall', { 'data-mid': message.mid });
    recall.onclick = () => device.recall(message.topic, message.mid).then(draw, (error) => status(`Not recalled: ${error.message}`));
    shown.append(' ', recall);
  }
  return shown;
}

async function show(conversation) {
  current = conversation;
  await draw();
  field('composer', 'text').focus();
}

async function send(text) {
  const conversation = current;
  const entry = { text };
  listOf(sending, conversation).push(entry);
  const sent = device.send(conversation, { text });
  await draw();
  try {
    await sent;
    sending.set(conversation, listOf(sending, conversation).filter((other) => other !== entry));
  } catch (error) {
    entry.error = error.message;
  }
  await draw();
}

function onSubmit(form, act) {
  at(form).addEventListener('submit', (event) => {
    event.preventDefault();
    const values = Object.fromEntries(new FormData(at(form)));
    at(form).reset();
    Promise.resolve(act(values)).catch((error) => status(error.message));
  });
}

onSubmit('login', ({ uid }) => start(uid));
onSubmit('private', ({ uid }) => show(`single/${uid.trim()}`));
onSubmit('group', async ({ members }) => {
  const gid = newGroupId();
  await device.group(gid).create({ members: members.split(/\D+/).filter(Boolean), name: 'Chat' });
  await show(`group/${gid}`);
});
onSubmit('composer', ({ text }) => send(text));
document.addEventListener('visibilitychange', () => device && draw());

// A user who has logged in stays logged in: a link with the user id is enough.
const uid = new URLSearchParams(location.search).get('uid');
if (uid) void start(uid).catch((error) => status(error.message));
