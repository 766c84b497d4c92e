// A page of the operators' manual: the files of docs/operators, with a heading or an alarm in them brought into view.
import { file } from './api.js';
import { h } from './dom.js';
import { t } from './texts.js';
import { head } from './ui.js';

export async function help(place, name, part = '') {
  const [title, ...blocks] = read(await file(`docs/${encodeURIComponent(name)}.md`), name);
  place.append(head(title.textContent, t('help_text'), h('a', { class: 'button', href: '#/overview' }, t('nav_overview'))), h('article', { class: 'card manual', lang: 'en' }, blocks));
  const here = part && blocks.find((each) => each.id === `manual-${part}`);
  if (!here) return;
  here.dataset.focus = '';
  here.scrollIntoView();
}

/** Returns a text with links to pages of the manual where it names them: `docs/operators/rules.md#rates`. */
export function linked(text) {
  return text.split(/(docs\/operators\/[\w-]+\.md(?:#[\w-]+)?)/).map((part, index) => (index % 2 ? h('a', { href: manual(part) }, part) : part));
}

/** Returns the address of a page of the manual by its path in the repository. */
export function manual(path) {
  const [, name, part] = /([\w-]+)\.md(?:#([\w-]+))?$/.exec(path);
  return `#/help/${name}${part ? `/${part}` : ''}`;
}

/** Returns the blocks of a page: what these files use of Markdown. */
function read(text, page) {
  const lines = text.split('\n');
  const blocks = [];
  const take = (belongs) => {
    const taken = [];
    while (lines.length && belongs(lines[0])) taken.push(lines.shift());
    return taken;
  };
  while (lines.length) {
    const [first] = lines;
    const heading = /^(#+) (.*)/.exec(first);
    if (heading) {
      lines.shift();
      blocks.push(h(`h${heading[1].length}`, { id: `manual-${slug(heading[2])}`, tabindex: '-1' }, inline(heading[2], page)));
    } else if (first.startsWith('```')) {
      lines.shift();
      blocks.push(h('pre', { tabindex: '0' }, take((line) => !line.startsWith('```')).join('\n')));
      lines.shift();
    } else if (first.startsWith('|')) {
      blocks.push(table(take((line) => line.startsWith('|')), page));
    } else if (first.startsWith('- ')) {
      const items = take((line) => /^(- |  )/.test(line)).join('\n').split(/^- /m).slice(1);
      blocks.push(h('ul', {}, items.map((item) => h('li', {}, inline(item, page)))));
    } else if (first === '' || first.startsWith('![')) {
      lines.shift();
    } else {
      blocks.push(h('p', {}, inline(take((line) => line !== '' && !/^(#+ |```|\||- )/.test(line)).join('\n'), page)));
    }
  }
  return blocks;
}

function table([titles, , ...rows], page) {
  const cells = (line) => line.slice(1, -1).split(/(?<!\\)\|/).map((each) => inline(each.trim(), page));
  const head = h('tr', {}, cells(titles).map((each) => h('th', { scope: 'col' }, each)));
  return h('div', { class: 'wide', tabindex: '0' }, h('table', { class: 'plain' }, h('thead', {}, head), h('tbody', {}, rows.map((row) => h('tr', {}, cells(row).map((each) => h('td', {}, each)))))));
}

const slug = (heading) => heading.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, '').replace(/\s/g, '-');

const INLINE = /`([^`]+)`|\[((?:[^[\]]|\[[^\]]*\])+)\]\(([^)\s]+)\)|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*/;
function inline(text, page) {
  const found = INLINE.exec(text);
  if (!found) return [text];
  const [whole, code, label, to, strong, weak] = found;
  const made = code ? h('code', {}, code) : label ? link(label, to, page) : strong ? h('strong', {}, inline(strong, page)) : h('em', {}, inline(weak, page));
  return [text.slice(0, found.index), made, ...inline(text.slice(found.index + whole.length), page)];
}

/** Other folders of the repository are not here: their names stay text. */
function link(label, to, page) {
  if (to.includes('://')) return h('a', { href: to, rel: 'noreferrer', target: '_blank' }, inline(label, page));
  if (to.startsWith('#')) return h('a', { href: `#/help/${page}/${to.slice(1)}` }, inline(label, page));
  return /^[\w-]+\.md(#|$)/.test(to) ? h('a', { href: manual(to) }, inline(label, page)) : h('span', {}, inline(label, page));
}
