import { memo, useEffect, useLayoutEffect, useRef, useState, type ComponentProps } from "react";
import { createPortal } from "react-dom";
import renderMarkdown, { type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import remend from "remend";
import { CodeBlock } from "./CodeBlock";
import { appendNodes, type Portal } from "./finishedNodes";
import { MarkdownPieces } from "./pieces";
import { visibleText } from "./visibleText";

type Formulas = typeof import("./math");

let loadedFormulas: Formulas | null = null;

/** Return the plugins for formulas, when they are needed and have come. */
function useFormulas(isNeeded: boolean): Formulas | null {
  const [formulas, setFormulas] = useState(() => loadedFormulas);
  useEffect(() => {
    if (!isNeeded || loadedFormulas !== null) return;
    let isShown = true;
    import("./math").then(
      (module) => {
        loadedFormulas = module;
        if (isShown) setFormulas(module);
      },
      () => undefined, // Without the chunk, as after an update of the server, formulas are shown as TeX.
    );
    return () => { isShown = false; };
  }, [isNeeded]);
  return isNeeded ? (formulas ?? loadedFormulas) : null;
}

/** Show a Markdown text that may still grow. Finished pieces of it are not parsed again. */
export function Markdown({ text, isOpen }: { text: string; isOpen: boolean }) {
  const [pieces] = useState(() => new MarkdownPieces());
  const { last, isMath } = pieces.update(text);
  const formulas = useFormulas(isMath);
  const host = useRef<HTMLDivElement>(null);
  const [finished] = useState(() => new FinishedPieces());
  const [portals, setPortals] = useState(finished.portals);
  useLayoutEffect(() => {
    if (host.current === null) return;
    finished.show(host.current, pieces, formulas);
    setPortals(finished.portals);
  }, [pieces, finished, text, formulas]);
  return (
    <div className="markdown">
      <div ref={host} />
      {/* A piece that does not grow any more is mounted anew: React would keep its last two states. */}
      <Piece key={isOpen ? "growing" : "complete"} text={isOpen ? remend(last) : last} formulas={formulas} />
      {portals.map(({ content, host: place }, number) => createPortal(content, place, number))}
    </div>
  );
}

/** The nodes of the finished pieces of one text. */
class FinishedPieces {
  /** Code blocks, which have a state. The array changes when they do. */
  portals: readonly Portal[] = [];
  /** Number of child nodes at the end of each piece. */
  readonly #ends: number[] = [];
  #formulas: Formulas | null = null;

  /** Remove pieces that are not part of the text any more, and append those that were finished since the last call. */
  show(host: Element, pieces: MarkdownPieces, formulas: Formulas | null): void {
    const { valid, added } = pieces.take(formulas !== this.#formulas);
    this.#formulas = formulas;
    if (valid < this.#ends.length) this.#removeAfter(host, valid);
    const portals: Portal[] = [];
    for (const piece of added) {
      appendNodes(host, rendered(piece, formulas), isLive, portals);
      this.#ends.push(host.childNodes.length);
    }
    if (portals.length > 0) this.portals = [...this.portals, ...portals];
  }

  #removeAfter(host: Element, count: number): void {
    this.#ends.length = count;
    const end = this.#ends.at(-1) ?? 0;
    while (host.childNodes.length > end) host.lastChild?.remove();
    this.portals = this.portals.filter((portal) => host.contains(portal.host));
  }
}

interface TreeNode {
  value?: string;
  readonly children?: readonly TreeNode[];
}

/** Write out the control characters that character references make, such as `&#x202E;`. */
function writeOutControls(node: TreeNode): void {
  if (node.value !== undefined) node.value = visibleText(node.value);
  node.children?.forEach(writeOutControls);
}

const PLAIN = [remarkGfm];
const VISIBLE = [() => writeOutControls];

const Piece = memo(function Piece({ text, formulas }: { text: string; formulas: Formulas | null }) {
  return rendered(text, formulas);
});

function rendered(text: string, formulas: Formulas | null) {
  const remarkPlugins = formulas === null ? PLAIN : [remarkGfm, ...formulas.remarkPlugins];
  const rehypePlugins = formulas === null ? VISIBLE : [...VISIBLE, ...formulas.rehypePlugins];
  return renderMarkdown({ children: text, remarkPlugins, rehypePlugins, components: COMPONENTS, urlTransform: safeAddress });
}

function isLive(component: unknown): boolean {
  return component === CodeBlock;
}

const WEB = /^(?:https?:\/\/|mailto:)/i;

/** Return the address of a link if a browser may open it, else an empty text. */
function safeAddress(address: string): string {
  return WEB.test(address.trim()) ? address : "";
}

function Link({ href, children }: ComponentProps<"a">) {
  if (href === undefined || href === "") return <span className="no-link">{children}</span>;
  return (
    <a href={href} title={href} target="_blank" rel="noopener noreferrer nofollow" referrerPolicy="no-referrer">
      {children}
    </a>
  );
}

/** An image of an answer is a link: to load it would tell its server what was said. */
function ImageLink({ src, alt }: ComponentProps<"img">) {
  const name = alt === undefined || alt === "" ? "image" : alt;
  const host = typeof src === "string" && src !== "" ? hostOf(src) : "";
  return (
    <Link href={typeof src === "string" ? src : ""}>
      {`🖼 ${visibleText(name)}`}
      {host !== "" && <small> ({host})</small>}
    </Link>
  );
}

function hostOf(address: string): string {
  try {
    return new URL(address).host;
  } catch {
    return "";
  }
}

const COMPONENTS: Components = {
  a: ({ href, children }) => <Link href={href}>{children}</Link>,
  img: ({ src, alt }) => <ImageLink src={src} alt={alt} />,
  pre: ({ children }) => <CodeBlock>{children}</CodeBlock>,
  table: ({ children }) => (
    // A region that scrolls can be reached by keyboard.
    <div className="table" role="region" aria-label="table" tabIndex={0}>
      <table>{children}</table>
    </div>
  ),
  input: ({ checked }) => <input type="checkbox" checked={checked === true} disabled aria-label="task" />,
};
