import Foundation
import KafkaLog
import MySQLStore
import NIOPosix
import NIOTransport
import Ports
import RPC
import RedisStore
import Runtime

/// Looks at everything that a configuration names, before it is used. Changes nothing that lasts.
struct Doctor {
    private let settings: SuiteSettings
    private let cluster: ClusterSettings
    private let group: MultiThreadedEventLoopGroup

    /// Everything that was found, in the order of the configuration.
    static func look(at configuration: Configuration) async -> [Finding] {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let doctor = Doctor(
            settings: SuiteSettings(configuration), cluster: ClusterSettings(configuration), group: group)
        var all = HostFacts.gather(doctor.settings, doctor.cluster).findings
        all += doctor.listeners()
        all += await doctor.kafka()
        all += await doctor.redis("presence", doctor.settings.redis.presence, mayEvict: false)
        all += await doctor.redis("hot", doctor.settings.redis.hot, mayEvict: true)
        all += doctor.mysql("recent", doctor.settings.mysql.recent)
        all += doctor.mysql("relational", doctor.settings.mysql.relational)
        all += doctor.secrets()
        try? await group.shutdownGracefully()
        return all
    }

    private var nowSeconds: Int64 { Int64(SystemClock.now().wallMS / 1000) }

    private func listeners() -> [Finding] {
        guard let tls = settings.tls else { return [] }
        var all = [CertificateProbe.file(tls.certificate, key: "listeners.tls", nowSeconds: nowSeconds)]
        if access(tls.key, R_OK) != 0 {
            all.append(
                Finding(
                    .error, "listeners.tls: key", "\(tls.key) cannot be read", cure: "Let this user read it"))
        }
        return all
    }

    /// What keeps settings from being used at all: a password's file, mostly.
    private static func unusable(_ subject: String, _ error: any Error) -> Finding {
        guard let error = error as? StartError else {
            return Finding(.error, "\(subject): settings", "\(error)", cure: "Correct the configuration")
        }
        return Finding(.error, "\(subject): settings", error.problem, cure: error.cure)
    }

    private func kafka() async -> [Finding] {
        guard let log = settings.log else { return [] }
        var all: [Finding] = []
        do {
            for name in ["msg", "push"] {
                all += KafkaExamination.examine(
                    try log.kafka(name), probe: "\(log.topics)doctor", subject: "log \(name)")
            }
        } catch { return [Self.unusable("log", error)] }
        guard log.properties["security.protocol"]?.lowercased().contains("ssl") == true else { return all }
        for broker in log.brokers.split(separator: ",").compactMap({ PeerAddress(String($0)) }) {
            all += await certificate("log", broker.host, broker.port)
        }
        return all
    }

    private func certificate(_ subject: String, _ host: String, _ port: Int) async -> [Finding] {
        let found = await CertificateProbe.server(host, port, subject: subject, group: group, nowSeconds: nowSeconds)
        return found.map { [$0] } ?? []
    }

    private func redis(_ store: String, _ place: RedisPlace?, mayEvict: Bool) async -> [Finding] {
        guard let place else { return [] }
        do {
            let config = try place.config(mayEvict: mayEvict)
            var all = await RedisExamination.examine(
                config, subject: store, loop: group.next(), wallMS: { SystemClock.now().wallMS })
            guard config.tls != nil else { return all }
            for address in Self.addresses(config.topology) {
                all += await certificate(store, address.host, address.port)
            }
            return all
        } catch { return [Self.unusable(store, error)] }
    }

    private static func addresses(_ topology: RedisTopology) -> [RedisAddress] {
        switch topology {
        case .cluster(let seeds): seeds
        case .shards(let shards):
            shards.flatMap { shard in
                switch shard.place {
                case .address(let address): [address]
                case .sentinel(_, let sentinels): sentinels
                }
            }
        }
    }

    private func mysql(_ store: String, _ place: MySQLPlace?) -> [Finding] {
        guard let place else { return [] }
        do {
            let config = try place.config()
            return config.addresses.flatMap { address in
                MySQLExamination.examine(
                    address, config, subject: "\(store) \(address)", wallMS: { SystemClock.now().wallMS })
            }
        } catch { return [Self.unusable(store, error)] }
    }

    private func secrets() -> [Finding] {
        guard !cluster.services.isEmpty else { return [] }
        var all: [Finding] = []
        for (key, secret, least) in [
            ("cluster.secret", cluster.secret, minimumSecretBytes), ("cluster.admin-key", cluster.adminKey, 1),
        ] {
            do {
                let bytes = try secret.read(of: key)?.utf8.count ?? 0
                if bytes >= least {
                    all.append(Finding(.ok, key, "\(bytes) bytes"))
                } else {
                    all.append(
                        Finding(.error, key, "\(bytes) bytes, \(least) are needed", cure: "Write a longer one"))
                }
            } catch { all.append(Self.unusable(key, error)) }
        }
        return all
    }
}
