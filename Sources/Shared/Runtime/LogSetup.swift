import Foundation
import Logging

/// One log line an event on standard error: time, level, service, text, values.
public enum LogSetup {
    /// Sets the process's log level once, at start. `MARTLET_LOG` (trace ... critical) overrides `level`.
    public static func bootstrap(level: Logger.Level = .info) {
        let wanted = ProcessInfo.processInfo.environment["MARTLET_LOG"].flatMap(Logger.Level.init(rawValue:)) ?? level
        LoggingSystem.bootstrap { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = wanted
            return handler
        }
    }
}
