import { useState } from "react";
import { usePage } from "../data/context";
import type { CallOptions } from "../data/page";
import { Dialog } from "../parts/Dialog";
import { Icon } from "../parts/Icon";
import { ModelSelect } from "./ModelSelect";

const MOST = 4;
/** Marks the answers that were asked for together, so that a reload shows them side by side too. */
export const SIDE_BY_SIDE = { side_by_side: true };

/** A button that chooses how many answers the next question gets, and their models. */
export function AnswerCount({ options, model }: { options: CallOptions; model: string | null }) {
  const page = usePage();
  const [isOpen, setIsOpen] = useState(false);
  const chosen: readonly (string | null)[] = options.alternatives?.map((one) => one.model ?? null) ?? [model];
  const choose = (models: readonly (string | null)[]) => {
    const alternatives = models.map((one) => ({ model: one, metadata: SIDE_BY_SIDE }));
    const [first = null] = models;
    page.setOptions({ ...options, ...(first !== null && { model: first }), alternatives: models.length > 1 ? alternatives : null });
  };
  const label = `Answers to the next question: ${chosen.length}`;
  return (
    <>
      <button type="button" className="icon" onClick={() => { setIsOpen(true); }} aria-label={label} title={label}>
        <Icon name="columns" />
        {chosen.length > 1 && <span aria-hidden="true">{chosen.length}</span>}
      </button>
      {isOpen && (
        <Dialog title="Answers side by side" onClose={() => { setIsOpen(false); }}>
          <p>Ask up to four models at once, and continue with the answer that you like.</p>
          <ol className="answers">
            {chosen.map((one, place) => (
              <li key={place}>
                <ModelSelect label={`Model of answer ${place + 1}`} model={one} onChosen={(next) => { choose(chosen.with(place, next)); }} />
                {chosen.length > 1 && (
                  <button type="button" className="icon" onClick={() => { choose(chosen.toSpliced(place, 1)); }} aria-label={`Remove answer ${place + 1}`}>
                    <Icon name="close" />
                  </button>
                )}
              </li>
            ))}
          </ol>
          <div className="row">
            <button type="button" disabled={chosen.length === MOST} onClick={() => { choose([...chosen, chosen.at(-1) ?? null]); }}>
              Add an answer
            </button>
            <button type="button" className="primary" onClick={() => { setIsOpen(false); }}>
              Done
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
