import { LabIcon } from '@jupyterlab/ui-components';

/** A graphics card, as it lies in its slot. */
export const gpuIcon = new LabIcon({
  name: 'tfgpu:gpu',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="#616161">
    <path d="M2 4h1.6v16H2zM5 6h16a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1H5V6zm1.6 1.6v7.8h13.8V7.6z" />
    <path d="M7 18h8v2H7zM13.5 8.6a2.9 2.9 0 1 1 0 5.8 2.9 2.9 0 0 1 0-5.8zm0 1.6a1.3 1.3 0 1 0 0 2.6 1.3 1.3 0 0 0 0-2.6zM8 9h1.4v5H8z" />
  </g>
</svg>`
});
