// The names of preact that the dashboard uses. Components and their properties are not typed: htm builds them from text.
export function h(type: any, props: any, ...children: any[]): any;
export function render(node: any, parent: Element): void;
export const Fragment: any;
