// The types for `import`: those of `require`.

import * as driftlock from './index.js'

export * from './index.js'
export default driftlock
