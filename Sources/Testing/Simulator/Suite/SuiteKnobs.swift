import IMRole
import LoginRole
import Machinery
import MsgProxyRole
import MsgReaderRole
import MsgWriterRole
import PushProxyRole
import PushServerRole
import PushWorkerRole
import UserRole

/// Limits that a seed makes so small that a short run meets them: full windows, cut pages, batches of two. Only limits
/// that no promise depends on.
struct SuiteKnobs {
    private(set) var login = LoginConfig()
    private(set) var user = UserConfig()
    private(set) var msgReader = MsgReaderConfig()
    private(set) var pushProxy = PushProxyConfig()
    private(set) var pushWorker = PushWorkerConfig()
    private var imTemplate = IMConfig(instance: "")
    private var proxyTemplate = MsgProxyConfig(instance: "")
    private var writerTemplate = MsgWriterConfig(instance: "", seed: 0)
    private var serverTemplate = PushServerConfig(member: "")

    /// Every limit as it is, but rounds of MsgWriter that a short run fills.
    init() { writerTemplate.recordsPerRound = 16 }

    init(seed: UInt64) {
        self.init()
        var random = SeededRandom(seed: seed ^ 0x6b6e_6f62)
        let share: Double = [0, 0.2, 0.5].randomElement(using: &random) ?? 0
        func turn<Value>(_ knob: inout Value, _ small: Value) {
            if random.chance(share) { knob = small }
        }
        turn(&login.pushWindow, 5)
        turn(&login.pushWindowBytes, 600)
        turn(&login.maxInFlight, 3)
        turn(&login.maxPendingPerKey, 2)
        turn(&login.maxHeldBytes, 400)
        turn(&login.maxCallsPerBatch, 2)
        turn(&login.maxRegistrationsPerCall, 1)
        turn(&login.appCacheMS, 700)
        turn(&login.maxKnownUsers, 2)
        turn(&login.pushAckEvery, 1)
        turn(&imTemplate.recordsPerCall, 3)
        turn(&imTemplate.questionsPerCall, 1)
        turn(&imTemplate.userCacheMS, 100)
        turn(&imTemplate.itemsHeld, 4)
        turn(&imTemplate.messagesPerSecond, 10)
        turn(&user.scannedRows, 1)
        turn(&user.maxSteps, 1)
        turn(&user.knownEntries, 2)
        turn(&user.maxResponseBytes, 150)
        turn(&proxyTemplate.entriesPerAppend, 2)
        turn(&proxyTemplate.waitingPerBucket, 3)
        turn(&writerTemplate.recordsPerRound, 1)
        turn(&writerTemplate.heldPerBucket, 3)
        turn(&writerTemplate.heldRecords, 5)
        turn(&writerTemplate.headsPerBucket, 2)
        turn(&writerTemplate.itemsPerCall, 2)
        turn(&writerTemplate.fetchBytes, 1)
        turn(&writerTemplate.userSlots, 1)
        turn(&msgReader.maxResponseBytes, 300)
        turn(&serverTemplate.windowRecords, 3)
        turn(&serverTemplate.windowBytes, 300)
        turn(&serverTemplate.fetchBytes, 1)
        turn(&serverTemplate.lookupRecords, 1)
        turn(&serverTemplate.planDeliveries, 1)
        turn(&pushWorker.requestDeliveries, 1)
        turn(&pushWorker.maxSlowSessions, 1)
        turn(&pushProxy.maxLookupUsers, 4)
    }

    func im(_ instance: String) -> IMConfig {
        var config = imTemplate
        config.instance = instance
        return config
    }

    func msgProxy(_ instance: String) -> MsgProxyConfig {
        var config = proxyTemplate
        config.instance = instance
        return config
    }

    func msgWriter(_ instance: String, _ seed: UInt64) -> MsgWriterConfig {
        var config = writerTemplate
        config.instance = instance
        config.seed = seed
        return config
    }

    func pushServer(_ member: String) -> PushServerConfig {
        var config = serverTemplate
        config.member = member
        return config
    }
}
