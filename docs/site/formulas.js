// Formulas are ```math blocks of the documents, which pymdownx leaves as \[…\] in elements of this class.
document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll(".arithmatex")) {
    const formula = element.textContent.replace(/^\s*\\\[/, "").replace(/\\\]\s*$/, "");
    katex.render(formula, element, { displayMode: true, throwOnError: true });
  }
});
