import Dispatch
import Foundation

/// Calls back on SIGTERM and SIGINT instead of ending the process.
///
/// Isolation: confined to the task that made it; the sources call back on a queue of their own.
final class SignalWatch {
    private let sources: [any DispatchSourceSignal]

    init(_ onSignal: @escaping @Sendable () -> Void) {
        let queue = DispatchQueue(label: "martlet.signals")
        sources = [SIGTERM, SIGINT].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
            source.setEventHandler { onSignal() }
            source.resume()
            return source
        }
    }

    /// Back to the default: the next signal ends the process.
    func cancel() {
        for source in sources { source.cancel() }
        for number in [SIGTERM, SIGINT] { signal(number, SIG_DFL) }
    }
}
