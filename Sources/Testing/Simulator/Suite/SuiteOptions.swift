import LoginRole
import Machinery
import Wire

/// How big a simulated suite is, and what is wrong with it on purpose.
struct SuiteOptions {
    var seed: UInt64
    var users = ["ann", "bob", "cleo"]
    /// One device of each for every user.
    var platforms = ["phone", "desk"]
    /// Messages of each device in each of its conversations, and when it writes them.
    var messages = 7
    var writesFromMS: UInt64 = 400
    var writesUntilMS: UInt64 = 5000
    /// Share of the devices that log in for the first time while the others write already.
    var latecomers = 0.3
    var buckets: UInt32 = 4
    var logins = 2
    var ims = 1
    /// Two of every role that is alone otherwise.
    var isWide = false
    /// Whether the seed may make limits small.
    var smallLimits = false
    /// Short, so that a silent connection is found within a run.
    var heartbeatMS: UInt64 = 3000

    // Mistakes on purpose, for tests of the checker.
    var imFault = FaultHook()
    var proxyFault = FaultHook()
    var writerFault = FaultHook()
    var pushProxyDrop: Int?
    var pushServerDrop: Int?
    var pushWorkerDrop: Int?
    var loginFault: (@Sendable (UInt64, PushedMessage) -> LoginConfig.TestFault)?
    /// Changes the stores before anything runs, and every device's settings.
    var change: ((SuiteStores) -> Void)?
    var tune: ((inout DeviceConfig) -> Void)?

    init(seed: UInt64) { self.seed = seed }
}
