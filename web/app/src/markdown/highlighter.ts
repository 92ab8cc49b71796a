// Colours of code: a chunk of its own, for answers that have code. Colours are classes, which the policy allows.

import { createCssVariablesTheme, createHighlighterCore, type ThemedToken } from "shiki/core";
import { createJavaScriptRegexEngine } from "shiki/engine/javascript";
import bash from "shiki/langs/bash.mjs";
import css from "shiki/langs/css.mjs";
import diff from "shiki/langs/diff.mjs";
import go from "shiki/langs/go.mjs";
import html from "shiki/langs/html.mjs";
import java from "shiki/langs/java.mjs";
import json from "shiki/langs/json.mjs";
import python from "shiki/langs/python.mjs";
import rust from "shiki/langs/rust.mjs";
import sql from "shiki/langs/sql.mjs";
import toml from "shiki/langs/toml.mjs";
import typescript from "shiki/langs/tsx.mjs";
import yaml from "shiki/langs/yaml.mjs";

const THEME = "classes";
/** Characters above which code stays plain: its colours would cost more than they help. */
const MOST = 50_000;

const theme = createCssVariablesTheme({ name: THEME, variablePrefix: "--" });
const highlighter = await createHighlighterCore({
  themes: [theme],
  langs: [bash, css, diff, go, html, java, json, python, rust, sql, toml, typescript, yaml],
  langAlias: { js: "tsx", javascript: "tsx", jsx: "tsx", ts: "tsx", typescript: "tsx", sh: "bash", py: "python", yml: "yaml", rs: "rust" },
  engine: createJavaScriptRegexEngine({ forgiving: true }),
});

export interface ColouredToken {
  readonly text: string;
  /** The class of its colour, or an empty text. */
  readonly kind: string;
}

/** Return the lines of a code as tokens, or null if its language is not known. */
export function tokensOf(code: string, language: string): ColouredToken[][] | null {
  const name = highlighter.resolveLangAlias(language.toLowerCase());
  if (code.length > MOST || !highlighter.getLoadedLanguages().includes(name)) return null;
  const { tokens } = highlighter.codeToTokens(code, { lang: name, theme: THEME });
  return tokens.map((line) => line.map(coloured));
}

function coloured({ content, color }: ThemedToken): ColouredToken {
  // The theme's colours are variables, such as `var(--token-keyword)`.
  return { text: content, kind: /--(token-[a-z-]+)/.exec(color ?? "")?.[1] ?? "" };
}
