/** The language of dates and numbers: the browser's. Texts are English, those of Today and Data in texts.js. */
export const LANGUAGE = navigator.language;
