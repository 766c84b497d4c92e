// Makes elements. Everything that came from elsewhere goes in as text: there is no way to put markup into the page.
const SVG = 'http://www.w3.org/2000/svg';

/** Returns an element: `on…` are listeners, `null` and `false` are left out, children are elements or text. */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const ICONS = {
  overview: ['M3 12l9-8 9 8', 'M6 10v10h12V10'],
  users: ['M16 20v-1.500a4 4 0 0 0-4-4H7a4 4 0 0 0-4 4V20', 'M9.500 11a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7z', 'M21 20v-1.500a4 4 0 0 0-3-3.870', 'M16 4.130a3.500 3.500 0 0 1 0 6.740'],
  groups: ['M4 5h16v11H9l-5 4z', 'M8 9h8', 'M8 12h5'],
  tags: ['M12 3H4v8l9 9 8-8z', 'M8 8h.01'],
  send: ['M21 3L10 14', 'M21 3l-7 18-4-7-7-4z'],
  refusals: ['M12 3l9 16H3z', 'M12 10v4', 'M12 16.500h.01'],
  audit: ['M6 3h9l4 4v14H6z', 'M14 3v5h5', 'M9 13h6', 'M9 17h6'],
};

export function icon(name) {
  return svg('svg', { viewBox: '0 0 24 24', 'aria-hidden': 'true' }, ICONS[name].map((d) => svg('path', { d })));
}
