import { useState } from "react";
import type { CallOptions } from "../data/page";
import { Dialog } from "../parts/Dialog";

interface OptionsProps {
  readonly options: CallOptions;
  readonly onSaved: (options: CallOptions) => void;
  readonly onClose: () => void;
}

/** The system prompt and the parameters of the answers that follow. */
export function Options({ options, onSaved, onClose }: OptionsProps) {
  const [system, setSystem] = useState(options.system ?? "");
  const [params, setParams] = useState(() => JSON.stringify(options.params ?? {}, null, 2));
  const read = paramsOf(params);
  return (
    <Dialog title="Options of the answers" onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (read === null) return;
          onSaved({ ...options, system: system === "" ? null : system, params: read });
          onClose();
        }}
      >
        <label>
          System prompt
          <textarea rows={6} value={system} onChange={(event) => { setSystem(event.target.value); }} />
        </label>
        <label>
          Parameters, such as {'{"temperature": 0.2, "max_tokens": 1000}'}
          <textarea rows={5} spellCheck={false} aria-invalid={read === null} value={params} onChange={(event) => { setParams(event.target.value); }} />
        </label>
        {read === null && (
          <p className="notice error" role="alert">
            The parameters are not a JSON object.
          </p>
        )}
        <div className="row">
          <button type="submit" className="primary" disabled={read === null}>
            Save
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function paramsOf(text: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(text.trim() === "" ? "{}" : text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
