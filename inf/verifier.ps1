<#
.SYNOPSIS
Driver Verifier for sluice.sys and ndis.sys: on, status, off.

.DESCRIPTION
On sets the standard options with DMA checking, NDIS verification and systematic low resources simulation. It takes
effect after a restart, and a violation is a blue screen: use it in a virtual machine, with a snapshot.

.PARAMETER Action
On, Status or Off.
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess)]
param(
    [Parameter(Mandatory)]
    [ValidateSet('On', 'Status', 'Off')]
    [string] $Action
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

# Special pool 1, force IRQL 2, pool tracking 8, I/O 10, deadlock 20, DMA 80, security 100, miscellaneous 800,
# DDI compliance 20000, systematic low resources 40000, NDIS/WIFI 200000.
$flags = '0x2609BB'

switch ($Action) {
    'On' {
        if ($PSCmdlet.ShouldProcess('sluice.sys, ndis.sys', "Set verifier flags $flags")) {
            & verifier.exe /flags $flags /driver sluice.sys ndis.sys
            # 2: the settings were changed and a restart is needed.
            if ($LASTEXITCODE -notin 0, 2) {
                throw "verifier ended with $LASTEXITCODE."
            }
            Write-Output 'Driver Verifier is on after the next restart.'
        }
    }
    'Status' {
        & verifier.exe /querysettings
        & verifier.exe /query
    }
    'Off' {
        if ($PSCmdlet.ShouldProcess('all drivers', 'Delete the verifier settings')) {
            & verifier.exe /reset
            if ($LASTEXITCODE -notin 0, 2) {
                throw "verifier ended with $LASTEXITCODE."
            }
            Write-Output 'Driver Verifier is off after the next restart.'
        }
    }
}
