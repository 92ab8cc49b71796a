/** Pieces of a Markdown text that can be parsed one by one, so that a growing text is not parsed again. */
export interface Pieces {
  readonly text: string;
  /** Positions in the text at which its pieces begin. The first is 0. */
  readonly starts: readonly number[];
}

export const NO_PIECES: Pieces = { text: "", starts: [0] };

const FENCE = /^ {0,3}(`{3,}|~{3,})/;
const LIST_ITEM = /^ {0,3}(?:[-+*]|\d{1,9}[.)])(?:\s|$)/;
/** Definitions are valid in the whole text: such a text is one piece. */
const DEFINITION = /^ {0,3}\[[^\]\n]+\]:/m;

/**
 * Return the pieces of `text`.
 *
 * @param known Pieces of an earlier state of the text. If the text only grew, the work is that of its last piece.
 */
export function splitMarkdown(text: string, known: Pieces = NO_PIECES): Pieces {
  if (text === known.text) return known;
  if (DEFINITION.test(text)) return { text, starts: [0] };
  const grew = text.startsWith(known.text) && !DEFINITION.test(known.text);
  const starts = grew ? [...known.starts] : [0];
  let at = starts[starts.length - 1] ?? 0;
  let fence = "";
  let isMath = false;
  let isList = false;
  let isBlank = false;
  let isFirst = true;
  while (at < text.length) {
    const end = text.indexOf("\n", at);
    const line = text.slice(at, end === -1 ? text.length : end);
    const isComplete = end !== -1;
    if (fence !== "") {
      if (closes(line, fence)) fence = "";
    } else if (isMath) {
      if (line.includes("$$")) isMath = false;
    } else if (line.trim() === "") {
      isBlank = !isFirst;
    } else {
      const isIndented = /^[ \t]/.test(line);
      const isItem = LIST_ITEM.test(line);
      // The beginning of a line may still grow into a list's item.
      const mayContinue = isIndented || (isList && (isItem || (!isComplete && line.length < 12)));
      if (isBlank && !mayContinue) {
        starts.push(at);
        isList = false;
        isFirst = true;
      }
      isBlank = false;
      if (isFirst) isList = isItem;
      isFirst = false;
      const opened = FENCE.exec(line)?.[1];
      if (opened !== undefined && !(opened.startsWith("`") && line.slice(line.indexOf(opened) + opened.length).includes("`"))) {
        fence = opened;
      } else if (line.startsWith("$$") && !line.slice(2).includes("$$")) {
        isMath = true;
      }
    }
    if (!isComplete) break;
    at = end + 1;
  }
  return { text, starts };
}

/** Return the pieces as texts. */
export function pieceTexts({ text, starts }: Pieces): string[] {
  return starts.map((start, place) => text.slice(start, starts[place + 1] ?? text.length));
}

/** Return a function that splits the states of one text, and remembers the last of them. */
export function makeSplitter(): (text: string) => string[] {
  let known = NO_PIECES;
  return (text) => {
    known = splitMarkdown(text, known);
    return pieceTexts(known);
  };
}

function closes(line: string, fence: string): boolean {
  const found = FENCE.exec(line)?.[1];
  return found?.startsWith(fence) === true && line.trim() === found;
}
