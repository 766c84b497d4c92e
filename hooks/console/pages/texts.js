// The texts of the console in the language of its user.
const LANGUAGES = ['en', 'zh'];
const KEY = 'emqx-im-language';

let texts = {};
export let language = 'en';

export async function loadTexts() {
  const kept = localStorage.getItem(KEY);
  language = LANGUAGES.includes(kept) ? kept : navigator.language.startsWith('zh') ? 'zh' : 'en';
  texts = await (await fetch(`texts/${language}.json`)).json();
  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
  document.title = t('title');
}

export async function switchLanguage() {
  localStorage.setItem(KEY, language === 'en' ? 'zh' : 'en');
  await loadTexts();
}

/** Returns a text; `{name}` in it stands for a value. */
export function t(name, values = {}) {
  return (texts[name] ?? name).replace(/\{(\w+)\}/g, (whole, value) => String(values[value] ?? whole));
}

/** Returns the user's own form of the language, for numbers and times. */
const locale = () => (navigator.language.startsWith(language) ? navigator.language : language);

export const count = (number) => new Intl.NumberFormat(locale()).format(number);
export const when = (milliseconds) =>
  new Intl.DateTimeFormat(locale(), { dateStyle: 'medium', timeStyle: 'medium' }).format(milliseconds);
/** Returns when a message was stored: ids are microseconds. */
export const whenStored = (id) => when(Math.floor(id / 1000));

export function bytes(number) {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  const step = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(number, 1)) / 10));
  return `${count(Math.round((number / 1024 ** step) * 10) / 10)} ${units[step]}`;
}
