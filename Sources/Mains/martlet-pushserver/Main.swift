import ArgumentParser
import MartletSuite

@main
struct MartletPushServer: ServiceExecutable {
    static let role = "pushserver"
    static let abstract = "Who is where: plans deliveries."
    @OptionGroup var options: ServiceOptions
}
