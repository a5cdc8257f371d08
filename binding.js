module.exports=require('./driftlock.linux-x64-gnu.node')
