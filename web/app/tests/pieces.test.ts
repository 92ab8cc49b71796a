import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { makeSplitter, pieceTexts, splitMarkdown } from "../src/markdown/pieces";

const split = (text: string) => pieceTexts(splitMarkdown(text));

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
    const splitter = makeSplitter();
    expect(splitter("[a][b]\n\nc")).toHaveLength(2);
    expect(splitter("[a][b]\n\nc\n\n[b]: https://a.example")).toHaveLength(1);
  });

  const line = fc.constantFrom("", "a", "- b", "1. c", "  d", "```", "~~~~", "$$", "# e", "| f |", "    g", "> h", "[i]: j");
  const texts = fc.array(line, { maxLength: 20 }).map((lines) => lines.join("\n"));

  test("the pieces together are the text", () => {
    fc.assert(fc.property(texts, (text) => { expect(split(text).join("")).toBe(text); }));
  });

  test("a text that grows by any steps ends with the pieces of the whole text", () => {
    fc.assert(
      fc.property(texts, fc.array(fc.nat(100), { maxLength: 10 }), (text, cuts) => {
        const splitter = makeSplitter();
        for (const cut of [...cuts].sort((one, other) => one - other)) splitter(text.slice(0, cut));
        expect(splitter(text)).toEqual(split(text));
      }),
      { numRuns: 2000 },
    );
  });
});
