// DOM nodes of finished Markdown. They are made out of React elements once, and React keeps nothing of them: its own
// nodes and texts would take more memory than the answer.

import { Fragment, isValidElement, type FunctionComponent, type ReactElement, type ReactNode } from "react";

const MATHML = "http://www.w3.org/1998/Math/MathML" as const;

/** A component that stays alive among finished nodes, and the node that it is rendered into. */
export interface Portal {
  readonly host: Element;
  readonly content: ReactElement;
}

/**
 * Append the nodes of a React element.
 *
 * @param isLive true for components that have a state. Others are called once.
 * @param portals takes the live components
 */
export function appendNodes(parent: Element, content: ReactNode, isLive: (component: unknown) => boolean, portals: Portal[]): void {
  if (content === null || content === undefined || typeof content === "boolean") return;
  if (Array.isArray(content)) {
    for (const item of content) appendNodes(parent, item as ReactNode, isLive, portals);
    return;
  }
  if (typeof content === "string" || typeof content === "number") {
    parent.append(String(content));
    return;
  }
  if (!isValidElement<{ readonly children?: ReactNode }>(content)) throw new TypeError("finished Markdown has elements and texts only");
  const type: unknown = content.type;
  const { children, ...properties } = content.props;
  if (isLive(type)) {
    const host = document.createElement("div");
    parent.append(host);
    portals.push({ host, content });
  } else if (typeof type === "function") {
    appendNodes(parent, (type as FunctionComponent<typeof content.props>)(content.props) as ReactNode, isLive, portals);
  } else if (type === Fragment) {
    appendNodes(parent, children, isLive, portals);
  } else {
    const element = newElement(parent, type as string);
    for (const [name, value] of Object.entries<unknown>(properties)) setProperty(element, name, value);
    appendNodes(element, children, isLive, portals);
    parent.append(element);
  }
}

function newElement(parent: Element, name: string): HTMLElement | MathMLElement {
  const isMath = name === "math" || parent.namespaceURI === MATHML;
  return isMath ? document.createElementNS(MATHML, name) : document.createElement(name);
}

/** Set a property by its name in React, as an attribute. HTML's attributes are not case-sensitive. */
function setProperty(element: HTMLElement | MathMLElement, name: string, value: unknown): void {
  if (name === "style") {
    // The page's policy allows no attribute for styles.
    Object.assign(element.style, value);
  } else if (value === null || value === undefined || value === false) {
    return;
  } else if ((typeof value !== "string" && typeof value !== "number" && value !== true) || /^on/i.test(name)) {
    throw new TypeError(`finished Markdown has no property ${name}`);
  } else {
    element.setAttribute(name === "className" ? "class" : name, value === true ? "" : String(value));
  }
}
