// The login: a token and a name, or a link that logs in once.
import { call } from './api.js';
import { h } from './dom.js';
import { language, switchLanguage, t } from './texts.js';
import { field, form, input } from './ui.js';

const NAME = 'emqx-im-name';

export function login(begin) {
  const once = location.hash.startsWith('#once=') ? location.hash.slice(6) : '';
  const kept = localStorage.getItem(NAME) ?? '';
  const name = input('name', { required: true, maxlength: 128, value: kept, autocomplete: 'username', title: t('login_name_hint') });
  const token = input('token', { type: 'password', required: !once, autocomplete: 'current-password', title: t('login_token_hint') });
  const fields = once ? [field(t('login_name'), name, t('login_name_hint'))] : [field(t('login_name'), name, t('login_name_hint')), field(t('login_token'), token, t('login_token_hint'))];

  async function enter(given) {
    await call('POST', '/console/login', { name: given.name, token: given.token ?? '', once });
    localStorage.setItem(NAME, given.name);
    if (once) history.replaceState(null, '', '#/overview');
    await begin();
  }

  const other = h('button', { type: 'button', class: 'small quiet', lang: language === 'en' ? 'zh-CN' : 'en', onclick: async () => { await switchLanguage(); await begin(); } }, language === 'en' ? '中文' : 'English');
  const made = form(fields, t('log_in'), enter, { changes: false });
  return h('main', { class: 'login' }, h('div', { class: 'card' }, h('div', { class: 'head' }, h('div', { class: 'brand' }, h('img', { src: 'icon.svg', alt: '' }), t('title')), other), h('div', {}, h('h1', {}, t('login_title')), h('p', { class: 'muted' }, once ? t('login_once') : t('login_text'))), made));
}
