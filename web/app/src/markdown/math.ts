// Formulas, as MathML: a chunk of its own, for answers that have some.

import type { Options as MarkdownOptions } from "react-markdown";
import rehypeKatex, { type Options } from "rehype-katex";
import remarkMath from "remark-math";

// A formula may neither link nor load anything, and its macros end.
const OPTIONS: Options = { output: "mathml", trust: false, strict: false, maxExpand: 500, maxSize: 50 };

type Plugins = NonNullable<MarkdownOptions["remarkPlugins"]>;

export const remarkPlugins: Plugins = [[remarkMath, { singleDollarTextMath: false }]];
export const rehypePlugins: Plugins = [[rehypeKatex, OPTIONS]];
