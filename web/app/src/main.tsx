import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import { Page } from "./data/page";
import { showTheme, storedTheme } from "./data/theme";
import "./style.css";

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no place for the page");
showTheme(storedTheme());
const page = new Page();
void page.start();
createRoot(root).render(
  <StrictMode>
    <App page={page} />
  </StrictMode>,
);
