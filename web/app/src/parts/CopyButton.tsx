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
  // A page that came over plain HTTP from another machine has no clipboard.
  if (!window.isSecureContext) throw new Error("no clipboard");
  await navigator.clipboard.writeText(text);
}
