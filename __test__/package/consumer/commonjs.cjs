const driftlock = require('driftlock')

console.log(JSON.stringify(Object.keys(driftlock).sort()))
