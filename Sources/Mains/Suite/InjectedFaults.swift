import EmbeddedStore
import LoginRole
import Machinery
import MsgWriterRole
import Ports
import Runtime
import Synchronization
import Wire

/// One thing broken on purpose, so that tests can prove that `martlet check` notices and that the push path heals.
/// Only the hidden option `--fault NAME` sets it.
public struct InjectedFaults: Sendable {
    var msgWriter = FaultHook()
    var msgReader = FaultHook()
    var pushProxyDrop: Int?
    var pushServerDrop: Int?
    var pushWorkerDrop: Int?
    var login: (@Sendable (UInt64, PushedMessage) -> LoginConfig.TestFault)?
    /// Where the embedded stores keep their files.
    var files: any FileLayer = RealFiles()

    /// Opportunities that pass first, so that a fault hits the middle of a run.
    private static let after = 20
    /// Heads are read far more rarely than messages pass.
    private static let afterHeads = 3

    public init() {}

    /// - Throws: `StartError` naming the faults that exist.
    public init(named name: String) throws {
        switch name {
        case "drop-record": msgWriter = FaultHook(.dropOne, after: Self.after)
        case "double-record": msgWriter = FaultHook(.doubleOne, after: Self.after)
        case "swap-records": msgWriter = FaultHook(.swapTwo, after: Self.after)
        // The recent store refuses a row that is miscounted, so these two mistakes are made behind it.
        case "miscount-record": login = Self.miscounted
        case "miscount-unread": msgReader = FaultHook(.miscountOne, after: Self.afterHeads)
        case "drop-at-pushproxy": pushProxyDrop = 1
        case "drop-at-pushserver": pushServerDrop = 1
        case "drop-at-pushworker": pushWorkerDrop = 1
        case "drop-at-login": login = { number, _ in number == 1 ? .skipFirstWrite : .none }
        case "lose-at-login": login = Self.lostEnd()
        case "no-sync": files = UnsyncedFiles()
        default:
            throw StartError(
                "there is no fault \(name)",
                cure: "Use drop-record, double-record, swap-records, miscount-record, miscount-unread, lose-at-login, "
                    + "no-sync, or drop-at-pushproxy, -pushserver, -pushworker, -login")
        }
    }

    /// One pushed message counts for one more than it is stored with.
    private static let miscounted: @Sendable (UInt64, PushedMessage) -> LoginConfig.TestFault = { number, message in
        guard number == UInt64(after) else { return .none }
        var other = message
        other.n += 1
        return .sendInstead(other)
    }

    /// From the twentieth push on, one conversation's pushes are answered as delivered and never written. All of them:
    /// a later message would show the gap and the client would close it, so only the end of a conversation can be lost.
    private static func lostEnd() -> @Sendable (UInt64, PushedMessage) -> LoginConfig.TestFault {
        let chosen = ChosenConversation()
        return { number, message in
            chosen.has(message.conversation, choosing: number >= UInt64(after)) ? .drop : .none
        }
    }
}

/// The conversation that a fault has settled on. Isolation: any thread; every loop has a Login that asks.
private final class ChosenConversation: Sendable {
    private let name = Mutex<String?>(nil)

    func has(_ conversation: String, choosing: Bool) -> Bool {
        name.withLock { name in
            if name == nil, choosing { name = conversation }
            return name == conversation
        }
    }
}
