import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import { PageStore } from "./data/store";
import { showTheme, storedTheme } from "./data/theme";
import "./style.css";

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no place for the page");
showTheme(storedTheme());
const store = new PageStore();
void store.start();
createRoot(root).render(
  <StrictMode>
    <App store={store} />
  </StrictMode>,
);
