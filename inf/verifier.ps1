<#
.SYNOPSIS
Driver Verifier for sluice.sys: its checks, low resources, status, off.

.DESCRIPTION
On sets the standard rule classes with DMA checking and NDIS verification for sluice.sys and ndis.sys.

LowResources sets systematic low resources simulation as well, for sluice.sys alone: faults in ndis.sys would reach the
stack of every adapter. After the restart nothing fails yet; LowResources with -Adapter then injects faults while it
cycles the adapter and stops and starts the service, and shows the statistics. A start that fails cleanly is a pass.

Both take effect after a restart, and a violation is a blue screen: use them in a virtual machine, with a snapshot.

.PARAMETER Action
On, LowResources, Status or Off.

.PARAMETER CardDriver
With On: image names of further drivers to verify, as that of the network card (Get-NetAdapter | Format-List DriverFileName).

.PARAMETER Adapter
With LowResources, after the restart: the adapter to cycle, as Get-NetAdapter names it.

.PARAMETER Count
With LowResources and -Adapter: rounds.
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)]
    [ValidateSet('On', 'LowResources', 'Status', 'Off')]
    [string] $Action,
    [ValidatePattern('^[^\\/\s]+\.sys$')] [string[]] $CardDriver = @(),
    [string] $Adapter,
    [ValidateRange(1, 100000)] [int] $Count = 50
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

# Special pool 1, force IRQL checking 2, pool tracking 4, I/O verification 5, deadlock detection 6, DMA checking 8,
# security checks 9, miscellaneous checks 12, DDI compliance checking 18, NDIS/WIFI verification 22.
$checkRules = 1, 2, 4, 5, 6, 8, 9, 12, 18, 22
# From build 22000 on: systematic low resources simulation 19, which needs DIF mode 36.
$faultRules = 19, 36
# Before build 22000: the standard flags 0x209BB, and 0x40000 for systematic low resources simulation.
$lowResourcesFlags = '0x609BB'

function Invoke-Verifier([string[]] $Arguments) {
    & verifier.exe @Arguments
    # 2: the settings were changed and a restart is needed.
    if ($LASTEXITCODE -notin 0, 2) {
        throw "verifier $($Arguments -join ' ') ended with $LASTEXITCODE."
    }
}

# Asks until the service is in the state, for a minute.
function Wait-ForService([string] $Status) {
    $deadline = (Get-Date).AddSeconds(60)
    while ((Get-Service -Name sluice).Status -ne $Status) {
        if ((Get-Date) -gt $deadline) {
            throw "FAILED: the service sluice is $((Get-Service -Name sluice).Status), not $Status, after a minute."
        }
        Start-Sleep -Milliseconds 200
    }
}

if ($CardDriver -and $Action -ne 'On') {
    throw '-CardDriver goes with On only: elsewhere faults would reach the card''s driver.'
}
if ($Adapter -and $Action -ne 'LowResources') {
    throw '-Adapter goes with LowResources only.'
}

switch ($Action) {
    'On' {
        # powershell -File hands a list over as one text.
        $drivers = @('sluice.sys', 'ndis.sys') + @($CardDriver | ForEach-Object { $_ -split ',' })
        if ($PSCmdlet.ShouldProcess($drivers -join ', ', "Set verifier rule classes $checkRules")) {
            Invoke-Verifier (@('/rc') + $checkRules + '/driver' + $drivers)
            Write-Output 'Driver Verifier is on after the next restart.'
        }
    }
    'LowResources' {
        if (-not $Adapter) {
            if ([Environment]::OSVersion.Version.Build -ge 22000) {
                $options = @('/rc') + $checkRules + $faultRules
            } else {
                $options = @('/flags', $lowResourcesFlags)
            }
            if ($PSCmdlet.ShouldProcess('sluice.sys', "Set verifier $options")) {
                Invoke-Verifier ($options + '/driver' + 'sluice.sys')
                Write-Output 'Low resources can be simulated after the next restart: verifier.ps1 LowResources -Adapter NAME.'
            }
            return
        }
        if (-not (@(& verifier.exe /query) -match 'sluice\.sys')) {
            throw 'Driver Verifier does not verify sluice.sys: run verifier.ps1 LowResources without -Adapter, and restart.'
        }
        $null = Get-NetAdapter -Name $Adapter
        if (-not $PSCmdlet.ShouldProcess($Adapter, "Inject faults in $Count rounds, cycling the adapter and the service")) {
            return
        }
        $failedStarts = 0
        Invoke-Verifier '/faultssystematic', 'enableruntime'
        try {
            for ($round = 1; $round -le $Count; $round++) {
                Write-Progress -Activity 'Low resources' -Status "$round of $Count" -PercentComplete (100 * $round / $Count)
                Invoke-Verifier '/faultssystematic', 'incrementcounter' | Out-Null
                Disable-NetAdapter -Name $Adapter -Confirm:$false
                Enable-NetAdapter -Name $Adapter -Confirm:$false
                if ((Get-Service -Name sluice).Status -eq 'Running') {
                    & sc.exe stop sluice | Out-Null
                    Wait-ForService 'Stopped'
                }
                & sc.exe start sluice | Out-Null
                if ($LASTEXITCODE -ne 0) {
                    $failedStarts++
                }
            }
        } finally {
            Invoke-Verifier '/faultssystematic', 'disableruntime' | Out-Null
            Enable-NetAdapter -Name $Adapter -Confirm:$false
        }
        Invoke-Verifier '/faultssystematic', 'querystatistics'
        if ((Get-Service -Name sluice).Status -ne 'Running') {
            & sc.exe start sluice | Out-Null
        }
        Wait-ForService 'Running'
        Write-Output "PASSED: $Count rounds, $failedStarts starts failed cleanly, and without faults the service runs."
    }
    'Status' {
        Invoke-Verifier '/querysettings'
        Invoke-Verifier '/query'
        # Without systematic low resources simulation there are none.
        & verifier.exe /faultssystematic querystatistics
    }
    'Off' {
        if ($PSCmdlet.ShouldProcess('all drivers', 'Delete the verifier settings')) {
            Invoke-Verifier '/reset'
            Write-Output 'Driver Verifier is off after the next restart.'
        }
    }
}
