import Foundation

/// Threads that belong to somebody: named, started once, ended by their owner's own flag.
public enum OwnedThread {
    /// Starts a thread that ends when `body` returns; nothing joins it.
    public static func start(name: String, _ body: @escaping @Sendable () -> Void) {
        let thread = Thread(block: body)
        thread.name = name
        thread.stackSize = 1 << 20
        thread.start()
    }
}
