import ArgumentParser
import MartletSuite

@main
struct MartletOnline: ServiceExecutable {
    static let role = "online"
    static let abstract = "Who is online, kicks, presence subscriptions."
    @OptionGroup var options: ServiceOptions
}
