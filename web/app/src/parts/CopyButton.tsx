import { useEffect, useState } from "react";
import { Icon } from "./Icon";

/** A button that copies a text, and says so for two seconds. */
export function CopyButton({ text, label }: { text: string; label: string }) {
  const [state, setState] = useState<"idle" | "copied" | "failed">("idle");
  useEffect(() => {
    if (state === "idle") return;
    const timer = setTimeout(() => { setState("idle"); }, 2000);
    return () => { clearTimeout(timer); };
  }, [state]);
  const copy = () => {
    copyText(text).then(
      () => { setState("copied"); },
      () => { setState("failed"); },
    );
  };
  const shown = { idle: label, copied: "Copied", failed: "The browser does not allow it" }[state];
  return (
    <button type="button" className="icon" onClick={copy} aria-label={shown} title={shown}>
      <Icon name={state === "copied" ? "check" : "copy"} />
    </button>
  );
}

async function copyText(text: string): Promise<void> {
  if (window.isSecureContext) await navigator.clipboard.writeText(text);
  else copySelected(text);
}

/** Copy a text in a page that came over plain HTTP from another machine. Such a page can only copy a selection. */
function copySelected(text: string): void {
  const focused = document.activeElement;
  const field = document.createElement("textarea");
  field.className = "hidden";
  field.value = text;
  // While a dialog is open, a field outside of it cannot be selected.
  (document.querySelector("dialog[open]") ?? document.body).append(field);
  field.select();
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- there is no other way without a secure context
  const isCopied = document.execCommand("copy");
  field.remove();
  if (focused instanceof HTMLElement) focused.focus();
  if (!isCopied) throw new Error("the browser did not copy");
}
