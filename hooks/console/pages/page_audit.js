// The page of what operators did.
import { get } from './api.js';
import { h } from './dom.js';
import { t, when } from './texts.js';
import { badge, empty, head, pages, table } from './ui.js';

export function audit(place) {
  const list = pages(async (after, limit) => (await get('audit', { after, limit })).audit, (row) => row.id, (rows) => table([
    [t('when'), (each) => when(each.at)],
    [t('by_unproved'), (each) => each.name || t('with_token')],
    [t('address'), (each) => h('span', { class: 'mono' }, each.address)],
    [t('call'), (each) => h('span', { class: 'mono' }, each.call)],
    [t('result'), (each) => badge(String(each.status), each.status < 300 ? 'good' : 'bad')],
    [t('content'), (each) => Object.keys(each.detail).length > 0 && h('details', {}, h('summary', {}, t('show')), h('pre', { tabindex: '0' }, JSON.stringify(each.detail, null, 2)))],
  ], rows, t('audit_title')), () => empty('audit', t('audit_none')), { limit: 50 });
  place.append(head(t('audit_title'), t('audit_text')), list.element);
}
