// Pieces of a Markdown text that can be parsed one by one, so that a growing text is not parsed again.

import { hasFormulas, withDollars } from "./formulas";
import { visibleText } from "./visibleText";

/** A text as it is shown: finished pieces, which `take` returns, and the last one. `isMath`: the text has formulas. */
export interface ShownPieces {
  readonly last: string;
  readonly isMath: boolean;
}

const FENCE = /^ {0,3}(`{3,}|~{3,})/;
const LIST_ITEM = /^ {0,3}(?:[-+*]|\d{1,9}[.)])(?:\s|$)/;
/** Definitions are valid in the whole text: such a text is one piece. */
const DEFINITION = /^ {0,3}\[[^\]\n]+\]:/m;

/** Return the pieces of a text. Joined, they are the text. */
export function splitMarkdown(text: string): string[] {
  if (DEFINITION.test(text)) return [text];
  const starts = [0];
  let at = 0;
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
  return starts.map((start, place) => text.slice(start, starts[place + 1] ?? text.length));
}

/**
 * The pieces of one text that grows. The work of an update is that of the last piece and of the growth. Finished
 * pieces are kept only until they are taken, because the text has them too.
 */
export class MarkdownPieces {
  #text = "";
  #shown: ShownPieces = { last: "", isMath: false };
  /** True if the text has parts that hold for all of it: definitions, or formulas, which may span blank lines. */
  #isWhole = false;
  /** Finished pieces after the first `#dropped` ones. */
  #finished: string[] = [];
  #dropped = 0;
  /** Number of taken pieces that are still pieces of the text. */
  #valid = 0;

  /** Return the last piece of the text as it is shown: with control characters written out. */
  update(text: string): ShownPieces {
    if (text === this.#text) return this.#shown;
    if (!text.startsWith(this.#text)) this.#begin();
    const tail = this.#shown.last + visibleText(text.slice(this.#text.length));
    if (!this.#isWhole && (DEFINITION.test(tail) || hasFormulas(tail))) {
      this.#begin();
      this.#isWhole = true;
    }
    if (this.#isWhole) {
      this.#splitWhole(visibleText(text));
    } else {
      const pieces = splitMarkdown(tail);
      const last = pieces.pop() ?? "";
      this.#finished.push(...pieces);
      this.#shown = { last, isMath: false };
    }
    this.#text = text;
    return this.#shown;
  }

  /**
   * Return the finished pieces that were not taken yet, and the number of taken ones before them. If that number is
   * smaller than before, the pieces after it are not part of the text any more.
   *
   * @param isAnew true to take all pieces again. It is allowed if the text has formulas.
   */
  take(isAnew = false): { readonly valid: number; readonly added: readonly string[] } {
    const valid = isAnew ? 0 : this.#valid;
    const added = this.#finished.slice(valid - this.#dropped);
    this.#valid = this.#dropped + this.#finished.length;
    if (!this.#isWhole) {
      this.#dropped = this.#valid;
      this.#finished = [];
    }
    return { valid, added };
  }

  #begin(): void {
    this.#text = "";
    this.#shown = { last: "", isMath: false };
    this.#isWhole = false;
    this.#finished = [];
    this.#dropped = 0;
    this.#valid = 0;
  }

  #splitWhole(text: string): void {
    const isMath = hasFormulas(text);
    const pieces = splitMarkdown(isMath ? withDollars(text) : text);
    const last = pieces.pop() ?? "";
    const known = this.#finished;
    const changed = pieces.findIndex((piece, place) => piece !== known[place]);
    const same = changed === -1 ? pieces.length : changed;
    this.#valid = Math.min(this.#valid, same);
    // A slice would keep the whole text of its moment in memory. An equal piece is there already.
    this.#finished = pieces.map((piece, place) => (place < same ? (known[place] ?? piece) : copied(piece)));
    this.#shown = { last, isMath };
  }
}

/** Return an equal text that shares no memory with a longer one. */
function copied(text: string): string {
  return JSON.parse(JSON.stringify(text)) as string;
}

function closes(line: string, fence: string): boolean {
  const found = FENCE.exec(line)?.[1];
  return found?.startsWith(fence) === true && line.trim() === found;
}
