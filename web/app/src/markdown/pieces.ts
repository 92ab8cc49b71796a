// Pieces of a Markdown text that can be parsed one by one, so that a growing text is not parsed again.

import { hasFormulas, withDollars } from "./formulas";
import { visibleText } from "./visibleText";

/** Pieces of a group. A finished group stays the same array, so that its view need not render again. */
export const GROUP = 32;
export type Groups = readonly (readonly string[])[];

/** The pieces of a text, in groups. `isMath`: the text has formulas. */
export interface GroupedPieces {
  readonly groups: Groups;
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

/** The pieces of one text that grows. The work of an update is that of the last piece and of the growth. */
export class MarkdownPieces {
  #text = "";
  #pieces: GroupedPieces = { groups: [[""]], isMath: false };
  /** True if the text has parts that hold for all of it: definitions, or formulas, which may span blank lines. */
  #isWhole = false;

  /** Return the pieces of the text as they are shown: with control characters written out. */
  update(text: string): GroupedPieces {
    if (text === this.#text) return this.#pieces;
    if (!text.startsWith(this.#text)) {
      this.#text = "";
      this.#pieces = { groups: [[""]], isMath: false };
      this.#isWhole = false;
    }
    const last = this.#pieces.groups.at(-1)?.at(-1) ?? "";
    const tail = last + visibleText(text.slice(this.#text.length));
    this.#text = text;
    this.#isWhole ||= DEFINITION.test(tail) || hasFormulas(tail);
    this.#pieces = this.#isWhole ? this.#whole(visibleText(text)) : { groups: this.#grown(splitMarkdown(tail)), isMath: false };
    return this.#pieces;
  }

  /** Return the groups after the last piece was split into `pieces`. */
  #grown(pieces: readonly string[]): Groups {
    const groups = [...this.#pieces.groups];
    let group = (groups.pop() ?? []).slice(0, -1);
    for (const piece of pieces) {
      if (group.length === GROUP) {
        groups.push(group);
        group = [];
      }
      group.push(piece);
    }
    return [...groups, group];
  }

  #whole(text: string): GroupedPieces {
    const isMath = hasFormulas(text);
    const pieces = splitMarkdown(isMath ? withDollars(text) : text);
    const groups: string[][] = [];
    for (let at = 0; at < pieces.length; at += GROUP) groups.push(pieces.slice(at, at + GROUP));
    const known = this.#pieces.groups;
    // A slice would keep the whole text of its moment in memory. An equal piece is there already.
    const reused = groups.map((group, number) => group.map((piece, place) => (known[number]?.[place] === piece ? known[number][place] : copied(piece))));
    return { groups: reused.map((group, number) => (equal(group, known[number]) ? known[number] : group)), isMath };
  }
}

function equal(group: readonly string[], known: readonly string[] | undefined): known is readonly string[] {
  return known?.length === group.length && group.every((piece, place) => piece === known[place]);
}

/** Return an equal text that shares no memory with a longer one. */
function copied(text: string): string {
  return JSON.parse(JSON.stringify(text)) as string;
}

function closes(line: string, fence: string): boolean {
  const found = FENCE.exec(line)?.[1];
  return found?.startsWith(fence) === true && line.trim() === found;
}
