import LoginRole
import Machinery
import MsgWriterRole
import Runtime
import Synchronization
import Wire

/// One thing broken on purpose, once, so that tests can prove that `martlet check` notices and that the push path
/// heals.
/// Only the hidden option `--fault NAME` sets it.
public struct InjectedFaults: Sendable {
    var msgWriter = FaultHook()
    var pushProxyDrop: Int?
    var pushServerDrop: Int?
    var pushWorkerDrop: Int?
    var login: (@Sendable (UInt64, PushedMessage) -> LoginConfig.TestFault)?

    /// Opportunities that pass first, so that a fault hits the middle of a run.
    private static let after = 20

    public init() {}

    /// - Throws: `StartError` naming the faults that exist.
    public init(named name: String) throws {
        switch name {
        case "drop-record": msgWriter = FaultHook(.dropOne, after: Self.after)
        case "double-record": msgWriter = FaultHook(.doubleOne, after: Self.after)
        case "swap-records": msgWriter = FaultHook(.swapTwo, after: Self.after)
        case "miscount-record": msgWriter = FaultHook(.miscountOne, after: Self.after)
        case "drop-at-pushproxy": pushProxyDrop = 1
        case "drop-at-pushserver": pushServerDrop = 1
        case "drop-at-pushworker": pushWorkerDrop = 1
        case "drop-at-login": login = { number, _ in number == 1 ? .skipFirstWrite : .none }
        case "lose-at-login": login = { number, _ in number == UInt64(Self.after) ? .drop : .none }
        default:
            throw StartError(
                "there is no fault \(name)",
                cure: "Use drop-record, double-record, swap-records, miscount-record, lose-at-login, "
                    + "or drop-at-pushproxy, -pushserver, -pushworker, -login")
        }
    }
}
