import { memo, useEffect, useState, type ComponentProps } from "react";
import renderMarkdown, { type Components } from "react-markdown";
import remarkGfm from "remark-gfm";
import remend from "remend";
import { CodeBlock } from "./CodeBlock";
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
  const { groups, isMath } = pieces.update(text);
  const formulas = useFormulas(isMath);
  return (
    <div className="markdown">
      {groups.map((group, place) => (
        <Group key={place} pieces={group} isOpen={isOpen && place === groups.length - 1} formulas={formulas} />
      ))}
    </div>
  );
}

interface GroupProps {
  readonly pieces: readonly string[];
  readonly isOpen: boolean;
  readonly formulas: Formulas | null;
}

const Group = memo(function Group({ pieces, isOpen, formulas }: GroupProps) {
  // A finished piece is mounted anew: React would keep the last two states of a piece that had grown.
  return pieces.map((piece, place) => {
    const grows = isOpen && place === pieces.length - 1;
    return <Piece key={grows ? "growing" : place} text={grows ? remend(piece) : piece} formulas={formulas} />;
  });
});

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

/** A long answer has thousands of pieces, so a piece is one component: the renderer is called, not mounted. */
const Piece = memo(function Piece({ text, formulas }: { text: string; formulas: Formulas | null }) {
  const remarkPlugins = formulas === null ? PLAIN : [remarkGfm, ...formulas.remarkPlugins];
  const rehypePlugins = formulas === null ? VISIBLE : [...VISIBLE, ...formulas.rehypePlugins];
  return renderMarkdown({ children: text, remarkPlugins, rehypePlugins, components: COMPONENTS, urlTransform: safeAddress });
});

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
