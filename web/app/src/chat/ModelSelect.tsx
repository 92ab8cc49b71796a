import { usePagePart } from "../data/context";

interface ModelSelectProps {
  readonly label: string;
  /** The chosen model. Null: the default of the server. */
  readonly model: string | null;
  readonly onChosen: (model: string) => void;
}

/** A list of the models that have a key, and of the chosen one. */
export function ModelSelect({ label, model, onChosen }: ModelSelectProps) {
  const models = usePagePart((snapshot) => snapshot.models);
  const ready = models.filter((one) => one.ready);
  const shown = model ?? ready.find((one) => one.default)?.id ?? "";
  const isListed = ready.some(({ id }) => id === shown);
  return (
    <select aria-label={label} value={shown} onChange={(event) => { onChosen(event.target.value); }}>
      {!isListed && <option value={shown}>{shown}</option>}
      {ready.map(({ id }) => (
        <option key={id} value={id}>
          {id}
        </option>
      ))}
    </select>
  );
}
