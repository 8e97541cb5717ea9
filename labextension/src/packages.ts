const INSTALL = /^\s*[%!]\s*pip3?\s+install\s+(.+)$/gm;
/** A word as a shell reads it, or what ends a command. */
const WORD = /(?:"[^"]*"|'[^']*'|[^\s"';|&])+|[;|&]/g;
/** A requirement by name, such as seaborn, pandas>=2 or jax[cpu]; no file, no address, no variable. */
const REQUIREMENT =
  /^[A-Za-z0-9][A-Za-z0-9._-]*(\[[\w,.\s-]*\])?\s*([<>=!~][^/${}]*)?$/;
const FILE = /\.(whl|zip|tar\.\w+|txt)$/;
/** Options that don't change what is installed, nor take a word of their own. */
const HARMLESS =
  /^(-q+|-v+|-U|--(quiet|verbose|upgrade|user|no-cache-dir|no-input|prefer-binary|force-reinstall|disable-pip-version-check|break-system-packages|no-warn-script-location|(root-user-action|progress-bar)=\w+))$/;

/** The requirements in what follows `pip install`; null where it names anything but packages by name. */
export function requirements(text: string): string[] | null {
  const found: string[] = [];
  for (const [word] of text.matchAll(WORD)) {
    if (/^[#;|&]/.test(word)) {
      break;
    }
    const plain = word.replace(/"([^"]*)"|'([^']*)'/g, '$1$2');
    if (HARMLESS.test(plain)) {
      continue;
    }
    if (!REQUIREMENT.test(plain) || FILE.test(plain)) {
      return null;
    }
    found.push(plain);
  }
  return found;
}

/** The requirements that a cell has installed by name. */
export function installed(source: string): string[] {
  return [...source.matchAll(INSTALL)].flatMap(
    ([, words]) => requirements(words ?? '') ?? []
  );
}
