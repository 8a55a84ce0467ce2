<#
.SYNOPSIS
Sends while an adapter is disabled and enabled, and says whether every frame is accounted for.

.PARAMETER Adapter
Name of the network adapter, as Get-NetAdapter shows it.

.PARAMETER Capture
The pcap or pcapng file to send.

.PARAMETER Count
How often the adapter is disabled and enabled.
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)] [string] $Adapter,
    [Parameter(Mandatory)] [string] $Capture,
    [ValidateRange(1, 100000)] [int] $Count = 100
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$client = Join-Path $PSScriptRoot 'sluice.exe'
foreach ($file in $client, $Capture) {
    if (-not (Test-Path -LiteralPath $file)) {
        throw "$file is missing."
    }
}
$index = (Get-NetAdapter -Name $Adapter).ifIndex

if (-not $PSCmdlet.ShouldProcess($Adapter, "Disable and enable $Count times while sending $Capture")) {
    return
}

$output = [System.IO.Path]::GetTempFileName()
$arguments = @('send', $index, "`"$Capture`"", '--loop', '1000000', '--wait', '60', '--json')
$sender = Start-Process -FilePath $client -ArgumentList $arguments -NoNewWindow -PassThru -RedirectStandardOutput $output
try {
    for ($round = 1; $round -le $Count; $round++) {
        Write-Progress -Activity "Disable and enable $Adapter" -Status "$round of $Count" -PercentComplete (100 * $round / $Count)
        Disable-NetAdapter -Name $Adapter -Confirm:$false
        Enable-NetAdapter -Name $Adapter -Confirm:$false
        Start-Sleep -Milliseconds (Get-Random -Minimum 200 -Maximum 3000)
        if ($sender.HasExited) {
            throw "sluice.exe ended with $($sender.ExitCode) in round $round. Its output is $output."
        }
    }
} finally {
    if (-not $sender.HasExited) {
        Stop-Process -Id $sender.Id
    }
    Enable-NetAdapter -Name $Adapter -Confirm:$false
}

$statistics = & $client stats $index --json | ConvertFrom-Json
$answered = $statistics.frames_sent + $statistics.frames_paused + $statistics.frames_failed
$open = $statistics.frames_in_flight + $statistics.frames_waiting
if ($statistics.frames_submitted -ne $answered -or $open -ne 0) {
    throw "FAILED: $($statistics.frames_submitted) frames were submitted, $answered answered, $open are still out."
}
Write-Output "PASSED: $Count rounds, $($statistics.frames_submitted) frames, all of them answered; $($statistics.pauses_pending) pauses had frames in flight."
