import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { withDollars } from "../src/markdown/formulas";
import { MarkdownPieces, splitMarkdown as split } from "../src/markdown/pieces";

/** Takes the pieces as a view does, and has all that are shown. */
class View {
  readonly #pieces = new MarkdownPieces();
  #taken: string[] = [];
  /** Number of pieces that were taken. */
  count = 0;
  isMath = false;

  /** Return the pieces that are shown after an update. */
  update(text: string, isAnew = false): readonly string[] {
    const { last, isMath } = this.#pieces.update(text);
    const { valid, added } = this.#pieces.take(isAnew);
    this.#taken = [...this.#taken.slice(0, valid), ...added];
    this.count += added.length;
    this.isMath = isMath;
    return [...this.#taken, last];
  }
}

describe("pieces of a Markdown text", () => {
  test("paragraphs, headings and fences are pieces of their own", () => {
    expect(split("a\nb\n\n# c\n\n```\nd\n\ne\n```\n\nf")).toEqual(["a\nb\n\n", "# c\n\n", "```\nd\n\ne\n```\n\n", "f"]);
  });

  test("a list with blank lines is one piece", () => {
    expect(split("1. a\n\n   b\n\n2. c\n\nd\n")).toEqual(["1. a\n\n   b\n\n2. c\n\n", "d\n"]);
    expect(split("- a\n\n- b")).toHaveLength(1);
  });

  test("a fence ends with its own kind only", () => {
    expect(split("````\n```\n\n~~~\n\n````\n\na")).toHaveLength(2);
    expect(split("~~~\n\n```\n\nstill code")).toHaveLength(1);
    expect(split("`` a`b ``\n\nc")).toHaveLength(2);
  });

  test("a formula with blank lines is one piece", () => {
    expect(split("$$\na\n\nb\n$$\n\nc")).toEqual(["$$\na\n\nb\n$$\n\n", "c"]);
  });

  test("a text with definitions is one piece, also if the definition comes late", () => {
    expect(split("[a][b]\n\nc\n\n[b]: https://a.example")).toHaveLength(1);
    const view = new View();
    expect(view.update("[a][b]\n\nc")).toHaveLength(2);
    expect(view.update("[a][b]\n\nc\n\n[b]: https://a.example")).toHaveLength(1);
  });

  const line = fc.constantFrom("", "a", "- b", "1. c", "  d", "```", "~~~~", "$$", "# e", "| f |", "    g", "> h", "[i]: j");
  const texts = fc.array(line, { maxLength: 20 }).map((lines) => lines.join("\n"));

  test("the pieces together are the text", () => {
    fc.assert(fc.property(texts, (text) => { expect(split(text).join("")).toBe(text); }));
  });

  test("a text that grows by any steps ends with the pieces of the whole text", () => {
    fc.assert(
      fc.property(texts, fc.array(fc.nat(100), { maxLength: 10 }), (text, cuts) => {
        const view = new View();
        for (const cut of [...cuts].sort((one, other) => one - other)) view.update(text.slice(0, cut));
        const shown = view.update(text);
        expect(shown).toEqual(split(view.isMath ? withDollars(text) : text));
        expect(view.isMath).toBe(text.includes("$$"));
        if (view.isMath) expect(view.update(text, true)).toEqual(shown);
      }),
      { numRuns: 2000 },
    );
  });

  test("each finished piece is taken once, and a text that is replaced begins anew", () => {
    const paragraphs = (count: number) => Array.from({ length: count }, (_, place) => `paragraph ${place}\n\n`).join("");
    const view = new View();
    view.update(paragraphs(3));
    expect(view.update(paragraphs(9))).toHaveLength(9);
    expect(view.count).toBe(8);
    view.update(paragraphs(9));
    expect(view.count).toBe(8);
    expect(view.update("another text")).toEqual(["another text"]);
  });

  test("pieces that are finished between two takes are taken together", () => {
    const pieces = new MarkdownPieces();
    pieces.update("a\n\nb");
    pieces.update("a\n\nb\n\nc");
    expect(pieces.take()).toEqual({ valid: 0, added: ["a\n\n", "b\n\n"] });
    expect(pieces.take()).toEqual({ valid: 2, added: [] });
  });

  test("of a text with formulas only the pieces that change are taken again", () => {
    const pieces = new MarkdownPieces();
    pieces.update("a\n\n$$b$$\n\n\\[c\n\nd");
    expect(pieces.take()).toEqual({ valid: 0, added: ["a\n\n", "$$b$$\n\n", "\\[c\n\n"] });
    pieces.update("a\n\n$$b$$\n\n\\[c\n\nd\\]\n\ne");
    expect(pieces.take()).toEqual({ valid: 1, added: ["$$b$$\n\n\n", "$$\nc\n\nd\n$$\n\n\n"] });
  });

  test("control characters are written out, in the growth too", () => {
    const view = new View();
    view.update("a\u001b[1m\n\nb");
    expect(view.update("a\u001b[1m\n\nb\u202ec")).toEqual(["a␛[1m\n\n", "b⟨U+202E⟩c"]);
  });
});
