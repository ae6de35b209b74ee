import Logging
import NIOCore
import RPC
import Synchronization
import Wire

/// A machine over Redis on a lane: its commands go to the client, the answers come back to the lane.
public enum RedisHost {
    /// Hosts the machine and starts it. The client must know the machine's scripts.
    @discardableResult
    public static func start<Machine: RoleMachine>(
        _ machine: Machine, instance: String, lane: Lane, directory: Directory, client: RedisClient, logger: Logger,
        clock: @escaping @Sendable () -> Instant = SystemClock.now
    ) -> RoleHost<Machine> where Machine.Input == RedisResponse, Machine.Output == RedisRequest {
        let way = WayBack<Machine>()
        let host = RoleHost(
            machine, instance: instance, lane: lane, directory: directory, logger: logger, clock: clock,
            output: { request in
                client.send(request) { response in
                    guard let host = way.host.withLock({ $0.value }) else { return }
                    lane.run { host.input(response) }
                }
            })
        way.host.withLock { $0.value = host }
        host.start()
        return host
    }

    /// The host, which its own output has to know.
    private final class WayBack<Machine: RoleMachine>: Sendable {
        struct Weak: Sendable { weak var value: RoleHost<Machine>? }
        let host = Mutex(Weak())
    }
}
